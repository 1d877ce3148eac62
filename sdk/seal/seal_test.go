package seal

import (
	"bytes"
	"errors"
	"testing"
)

func TestOnlyTheKeyAndBindingOpen(t *testing.T) {
	t.Parallel()
	private, recipient, err := NewKey()
	if err != nil {
		t.Fatal(err)
	}
	again, err := Recipient(private)
	if err != nil || !bytes.Equal(again, recipient) {
		t.Fatalf("recipient of the kept key: %x %v", again, err)
	}
	other, _, err := NewKey()
	if err != nil {
		t.Fatal(err)
	}
	sealed, err := Seal(recipient, []byte("reservation 7"), []byte("a secret"))
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Contains(sealed, []byte("a secret")) {
		t.Fatal("the secret is readable")
	}
	damaged := bytes.Clone(sealed)
	damaged[len(damaged)-1] ^= 1
	for name, tc := range map[string]struct {
		key, binding, sealed []byte
		want                 string
		err                  error
	}{
		"right":         {private, []byte("reservation 7"), sealed, "a secret", nil},
		"other binding": {private, []byte("reservation 8"), sealed, "", ErrCannotOpen},
		"other key":     {other, []byte("reservation 7"), sealed, "", ErrCannotOpen},
		"damaged":       {private, []byte("reservation 7"), damaged, "", ErrCannotOpen},
		"short":         {private, []byte("reservation 7"), sealed[:5], "", ErrCannotOpen},
	} {
		got, err := Open(tc.key, tc.binding, tc.sealed)
		if !errors.Is(err, tc.err) || string(got) != tc.want {
			t.Errorf("%s: got %q, %v", name, got, err)
		}
	}
	if _, err := Seal(recipient, nil, nil); err == nil {
		t.Error("sealed without a binding")
	}
}

func FuzzOpen(f *testing.F) {
	private, _, err := NewKey()
	if err != nil {
		f.Fatal(err)
	}
	f.Add([]byte("x"), []byte("y"))
	f.Fuzz(func(t *testing.T, recipient, sealed []byte) {
		if _, err := Open(private, []byte("b"), sealed); err == nil {
			t.Fatal("opened what nobody sealed")
		}
		_, _ = Seal(recipient, []byte("b"), []byte("data"))
	})
}
