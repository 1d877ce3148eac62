package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"text/tabwriter"

	"github.com/urfave/cli/v2"
	"golang.org/x/term"

	"mk8s.io/mk/core/operation"
	"mk8s.io/mk/core/recovery"
	"mk8s.io/mk/core/snapshot"
)

func (s *session) snapshotList(c *cli.Context) error {
	return s.open("datastore snapshot list", func(n *operation.Node) error {
		list, err := recovery.Of(n).Snapshots()
		if err != nil {
			return err
		}
		return s.show(list, func(w io.Writer) error {
			t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
			fmt.Fprintln(t, "NAME\tTAKEN\tSIZE\tOBJECTS\tBEFORE")
			for _, i := range list {
				objects, why := fmt.Sprint(i.Objects), i.Why
				if i.Encrypted {
					objects, why = "-", "encrypted"
				}
				if i.Fault != "" {
					objects, why = "-", "cannot be read: "+i.Fault
				}
				fmt.Fprintf(t, "%s\t%s\t%.1f MiB\t%s\t%s\n", i.Name, i.Taken.Format("2006-01-02 15:04 MST"), float64(i.Size)/(1<<20), objects, why)
			}
			return t.Flush()
		})
	})
}

func (s *session) snapshotSave(c *cli.Context) error {
	if c.IsSet("recipient") && !c.Bool("with-keys") {
		return usage("--recipient says who can open the keys: it goes with --with-keys")
	}
	if err := s.root("datastore snapshot save"); err != nil {
		return err
	}
	o := recovery.SaveOptions{Why: "save"}
	if c.Bool("with-keys") && !s.global.dryRun {
		var err error
		if o.To, err = s.recipients(c.StringSlice("recipient")); err != nil {
			return err
		}
	}
	return s.save(c, o, c.String("to"))
}

// save takes a snapshot, and copies it out of the node's folder where that is
// asked for.
func (s *session) save(c *cli.Context, o recovery.SaveOptions, to string) error {
	return s.open("datastore snapshot save", func(n *operation.Node) error {
		if s.global.dryRun {
			return s.showPlan(&operation.Plan{Then: []string{"copy the datastore", "start the copy, to see that it can be", "keep it in " + n.Root.Path("var/snapshots")}})
		}
		ctx, cancel := s.bounded(c)
		defer cancel()
		info, err := recovery.Of(n).Save(ctx, o)
		if err != nil {
			return err
		}
		if to != "" {
			if err := copyOut(info.File, to); err != nil {
				return err
			}
			info.File = to
		}
		return s.show(info, func(w io.Writer) error {
			_, err := fmt.Fprintln(w, info.File)
			return err
		})
	})
}

// copyOut writes a file of the user's as a whole, for the user alone.
func copyOut(from, to string) error {
	in, err := os.Open(from)
	if err != nil {
		return fmt.Errorf("copy the snapshot: %w", err)
	}
	defer in.Close() //nolint:errcheck // only read
	f, err := os.CreateTemp(filepath.Dir(to), ".mk-*")
	if err != nil {
		return fmt.Errorf("write %s: %w", to, err)
	}
	if _, err = io.Copy(f, in); err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err == nil {
		err = os.Rename(f.Name(), to)
	}
	if err != nil {
		return errors.Join(fmt.Errorf("write %s: %w", to, err), os.Remove(f.Name()))
	}
	return nil
}

func (s *session) snapshotVerify(c *cli.Context) error {
	if c.Args().Len() != 1 {
		return usage("mk datastore snapshot verify needs the name of one snapshot, or a file")
	}
	if err := s.root("datastore snapshot verify"); err != nil {
		return err
	}
	return s.open("datastore snapshot verify", func(n *operation.Node) error {
		ctx, cancel := s.bounded(c)
		defer cancel()
		var v *recovery.Verified
		err := s.withKey(c.String("identity"), func(k *snapshot.Key) (err error) {
			v, err = recovery.Of(n).Verify(ctx, c.Args().First(), k)
			return err
		})
		if err != nil {
			return err
		}
		return s.show(v, func(w io.Writer) error {
			m := v.Manifest
			_, err := fmt.Fprintf(w, "good: %s of %s, %d objects at revision %d, %s\n", m.Taken.Format("2006-01-02 15:04 MST"), m.Node, v.Held.Keys, v.Held.Revision,
				map[bool]string{true: "with the authorities' keys", false: "without the authorities' keys"}[m.Keys])
			return err
		})
	})
}

// recipients are who can open a snapshot: those named, or who knows a
// passphrase that is typed now.
func (s *session) recipients(named []string) (*snapshot.Lock, error) {
	if len(named) == 0 {
		words, err := s.passphrase("A passphrase for the snapshot: ", "The same again: ")
		if err != nil {
			return nil, err
		}
		lock, _, err := snapshot.Passphrase(words)
		return lock, err
	}
	var lines []string
	for _, who := range named {
		if strings.HasPrefix(who, "age1") {
			lines = append(lines, who)
			continue
		}
		data, err := os.ReadFile(who)
		if err != nil {
			return nil, fmt.Errorf("read recipients: %w", err)
		}
		lines = append(lines, string(data))
	}
	lock, err := snapshot.ParseRecipients(strings.Join(lines, "\n"))
	if err != nil {
		return nil, usage("--recipient: %v", err)
	}
	return lock, nil
}

// withKey does something with a snapshot that may be encrypted. Where it is and
// no identity was named, the passphrase is asked for.
func (s *session) withKey(file string, do func(*snapshot.Key) error) error {
	if file != "" {
		data, err := os.ReadFile(file)
		if err != nil {
			return fmt.Errorf("read the identity: %w", err)
		}
		key, err := snapshot.ParseIdentities(string(data))
		if err != nil {
			return usage("--identity %s: %v", file, err)
		}
		return do(key)
	}
	err := do(nil)
	if !errors.Is(err, snapshot.ErrEncrypted) {
		return err
	}
	words, err := s.passphrase("The passphrase of the snapshot: ")
	if err != nil {
		return err
	}
	_, key, err := snapshot.Passphrase(words)
	if err != nil {
		return err
	}
	return do(key)
}

// passphrase asks on the terminal, without echo; all answers must be the same.
func (s *session) passphrase(questions ...string) (string, error) {
	f, ok := s.in.(*os.File)
	if !ok || !term.IsTerminal(int(f.Fd())) {
		return "", &problem{Reason: "NEEDS_KEY", Message: "a snapshot with keys is encrypted, and nobody is here to type a passphrase", exit: exitNeedsYes,
			state: unchanged, Next: []string{"to write one: --recipient age1...   to read one: --identity FILE"}}
	}
	var first string
	for i, q := range questions {
		fmt.Fprint(s.err, q)
		typed, err := term.ReadPassword(int(f.Fd()))
		fmt.Fprintln(s.err)
		if err != nil {
			return "", fmt.Errorf("read the passphrase: %w", err)
		}
		if i > 0 && string(typed) != first {
			return "", usage("the two are not the same")
		}
		first = string(typed)
	}
	if len(first) < minPassphrase {
		return "", usage("a passphrase has at least %d letters", minPassphrase)
	}
	return first, nil
}

const minPassphrase = 12

// restore brings back what a snapshot holds.
func (s *session) restore(c *cli.Context, file string) error {
	if file == "" {
		return usage("the name of one snapshot is needed, or a file")
	}
	if err := s.root("datastore snapshot restore"); err != nil {
		return err
	}
	o := recovery.RestoreOptions{File: file, Name: c.String("name"), Address: c.String("address")}
	if _, err := os.Stat(file); err == nil {
		abs, err := filepath.Abs(file)
		if err != nil {
			return fmt.Errorf("find the snapshot: %w", err)
		}
		o.File = abs
	}
	options, err := s.options("datastore snapshot restore")
	if err != nil {
		return err
	}
	ctx, cancel := s.bounded(c)
	defer cancel()
	if s.global.dryRun {
		return s.showPlan(&operation.Plan{Then: []string{"read the snapshot, and start its datastore to see that it can be", "keep aside what this node has",
			"make a datastore with a new identity", "prepare for the pods: images, and no authority but the cluster's",
			"start the services", "let this node in", "forget the control-plane nodes that are lost"}})
	}
	n, err := operation.CreateNode(options)
	if err != nil {
		return err
	}
	return joinClose(s.restoreTo(ctx, n, o, c.String("identity")), n)
}

func (s *session) restoreTo(ctx context.Context, n *operation.Node, o recovery.RestoreOptions, identity string) error {
	if n.Record != nil && n.Record.ClusterID != "" {
		if err := s.agree("The datastore of "+n.Record.Name+" becomes what it was when the snapshot was taken; what came later is kept aside.", n.Record.Name); err != nil {
			return err
		}
	} else if err := operation.Preflight(ctx, n.Options, operation.StartOptions{Name: o.Name, Address: o.Address}); err != nil {
		return err
	}
	err := s.withKey(identity, func(k *snapshot.Key) error {
		o.Key = k
		return recovery.Of(n).Restore(ctx, o)
	})
	if err != nil {
		return err
	}
	return s.show(map[string]string{"node": n.Record.Name, "state": "restored"}, func(w io.Writer) error {
		_, err := fmt.Fprintf(w, "%s is ready, with the objects of the snapshot\n", n.Record.Name)
		return err
	})
}
