package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"os"

	"mk8s.io/mk/cmd/kubelite/offline"
)

// runDatastore works on the files of a datastore that does not run, and prints what it found as JSON. mk calls it; its
// options are no promise to people.
func runDatastore(args []string, out io.Writer) int {
	ctx, stop := untilStopped()
	defer stop()
	if err := datastore(ctx, args, out); err != nil {
		fmt.Fprintln(os.Stderr, "datastore:", err)
		return 1
	}
	return 0
}

func datastore(ctx context.Context, args []string, out io.Writer) error {
	if len(args) == 0 {
		return fmt.Errorf("want one of verify, restore, rescue, members, settle")
	}
	f := flag.NewFlagSet("datastore "+args[0], flag.ContinueOnError)
	from := f.String("from", "", "the snapshot, or the member's data folder")
	to := f.String("to", "", "what to make")
	scratch := f.String("scratch", "", "an empty folder for copies")
	name := f.String("name", "", "the member's name")
	peer := f.String("peer", "", "the member's address for peers")
	token := f.String("token", "", "what the new identity is made of")
	bump := f.Uint64("bump", 0, "what is added to the revision")
	if err := f.Parse(args[1:]); err != nil {
		return err
	}
	var result any
	var err error
	switch args[0] {
	case "verify":
		result, err = offline.Verify(ctx, *from, *scratch)
	case "restore":
		err = offline.Make(offline.Restore{From: *from, To: *to, Name: *name, Peer: *peer, Token: *token, Bump: *bump})
	case "rescue":
		result, err = offline.Rescue(ctx, *from, *name, *to, *scratch)
	case "members":
		result, err = offline.Members(*from, *scratch)
	case "settle":
		err = offline.Settle(*from)
	default:
		return fmt.Errorf("unknown work %q: want one of verify, restore, rescue, members, settle", args[0])
	}
	if err != nil || result == nil {
		return err
	}
	return json.NewEncoder(out).Encode(result)
}
