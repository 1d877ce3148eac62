package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"sync"

	"mk8s.io/mk/cmd/kubelite/drain"
)

// runDrain reads a request from in, evicts a node's pods, and writes what happens as lines of JSON; the last one is the end.
// It ends early when in does: so whoever asked takes it along, even when killed. mk calls it; it is no promise to people.
func runDrain(in io.Reader, out io.Writer) int {
	ctx, stop := untilStopped()
	defer stop()
	dec := json.NewDecoder(in)
	var request drain.Request
	if err := dec.Decode(&request); err != nil {
		fmt.Fprintln(os.Stderr, "drain: read the request:", err)
		return 2
	}
	go func() {
		_, _ = io.Copy(io.Discard, in) // whatever ends it
		stop()
	}()
	client, err := drain.Connect(request)
	if err != nil {
		fmt.Fprintln(os.Stderr, "drain:", err)
		return 1
	}
	var mu sync.Mutex
	enc := json.NewEncoder(out)
	tell := func(a drain.Answer) {
		mu.Lock()
		defer mu.Unlock()
		if err := enc.Encode(a); err != nil {
			stop() // nobody listens
		}
	}
	tell(drain.Run(ctx, client, request, func(text string) { tell(drain.Answer{Progress: text}) }))
	return 0
}
