package datastore

import (
	"slices"
	"testing"
)

// A member that goes is asked last, wherever it answered and said that it does.
func TestAskLast(t *testing.T) {
	t.Parallel()
	c := New(Options{Endpoints: []string{"https://127.0.0.1:12379", "https://10.0.0.3:12379", "https://10.0.0.1:12379", "https://10.0.0.2:12379"}})
	c.met(3, "https://127.0.0.1:12379")
	c.askLast(&Member{id: 3, ClientAddress: "https://10.0.0.3:12379"})
	want := []string{"https://10.0.0.1:12379", "https://10.0.0.2:12379", "https://127.0.0.1:12379", "https://10.0.0.3:12379"}
	if got := c.known(); !slices.Equal(got, want) {
		t.Errorf("asked %q, want %q", got, want)
	}
}
