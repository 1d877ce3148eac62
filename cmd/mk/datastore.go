package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/urfave/cli/v2"

	"mk8s.io/mk/core/datastore"
	"mk8s.io/mk/core/node"
	"mk8s.io/mk/core/operation"
	"mk8s.io/mk/core/recovery"
)

// datastoreVerbs show how the datastore is, keep it and bring it back.
func (s *session) datastoreVerbs() *cli.Command {
	identity := &cli.StringFlag{Name: "identity", Usage: "`FILE` with the age identity that opens it"}
	return &cli.Command{
		Name: "datastore", Aliases: []string{"datastores"}, Usage: "list the datastore's members, and say how it is", Description: "mk datastore status\nmk datastore members -o json",
		UsageText: exitsRead + ", 4 not ready", Action: s.datastoreMembers,
		Subcommands: []*cli.Command{
			{Name: "status", Usage: "say whether it has a quorum, who leads and who is silent", Description: "mk datastore status",
				UsageText: exitsRead + ", 4 not ready", Action: s.datastoreStatus},
			{Name: "members", Aliases: []string{"list"}, Usage: "list the members", Description: "mk datastore members", UsageText: exitsRead + ", 4 not ready", Action: s.datastoreMembers},
			{Name: "recover", Usage: "go on with this node's data alone: the other members are gone for good", Description: "sudo mk datastore recover",
				UsageText: exitsUsual + ", 4 not ready, 6 needs --yes", Action: s.datastoreRecover},
			{
				Name: "snapshot", Aliases: []string{"snapshots"}, Usage: "list this node's snapshots", Description: "mk datastore snapshot list",
				UsageText: exitsRead, Action: s.snapshotList,
				Subcommands: []*cli.Command{
					{Name: "list", Usage: "list this node's snapshots, the newest first", Description: "mk datastore snapshot list", UsageText: exitsRead, Action: s.snapshotList},
					{Name: "save", Usage: "take a snapshot, and start it to see that it is good",
						Description: "sudo mk datastore snapshot save --to backup.tar.gz\nsudo mk datastore snapshot save --with-keys --recipient age1...",
						UsageText:   exitsUsual + ", 6 nobody types a passphrase", Action: s.snapshotSave,
						Flags: []cli.Flag{
							&cli.StringFlag{Name: "to", Usage: "copy it to this `FILE`, too"},
							&cli.BoolFlag{Name: "with-keys", Usage: "with the authorities' keys, encrypted"},
							&cli.StringSliceFlag{Name: "recipient", Usage: "`WHO` can open it: age1..., or a file of such lines"},
						}},
					{Name: "verify", Usage: "read a whole snapshot, and start it on a socket of its own", ArgsUsage: "NAME|FILE",
						Description: "sudo mk datastore snapshot verify backup.tar.gz", UsageText: exitsUsual + ", 6 nobody types a passphrase", Action: s.snapshotVerify, Flags: []cli.Flag{identity}},
					{Name: "restore", Usage: "bring a cluster back from a snapshot: on an empty machine the whole node", ArgsUsage: "NAME|FILE",
						Description: "sudo mk datastore snapshot restore backup.tar.gz", UsageText: exitsUsual + ", 4 not ready, 6 needs --yes",
						Action: func(c *cli.Context) error { return s.restore(c, c.Args().First()) },
						Flags: []cli.Flag{identity,
							&cli.StringFlag{Name: "name", Usage: "the node's `NAME` (default: that of the snapshot's node)"},
							&cli.StringFlag{Name: "address", Usage: "the `ADDRESS` that other nodes use (default: that of the default route)"},
						}},
				},
			},
		},
	}
}

func (s *session) datastoreStatus(c *cli.Context) error {
	return s.withDatastore(c, func(st *datastore.Status, without []string) error {
		doc := struct {
			*datastore.Status
			NoVote []string `json:"noVote"` // control-plane nodes that hold no part of it
		}{st, without}
		return s.show(doc, func(w io.Writer) error { return errors.Join(printDatastore(w, st), printWithout(w, without)) })
	})
}

func (s *session) datastoreMembers(c *cli.Context) error {
	return s.withDatastore(c, func(st *datastore.Status, without []string) error {
		return s.show(st.Members, func(w io.Writer) error { return errors.Join(printMembers(w, st.Members), printWithout(w, without)) })
	})
}

// withDatastore shows a status; one without a quorum is shown, and is a problem.
func (s *session) withDatastore(c *cli.Context, show func(st *datastore.Status, without []string) error) error {
	ctx, cancel := s.bounded(c)
	defer cancel()
	return s.open("datastore", func(n *operation.Node) error {
		st, err := readDatastore(ctx, n)
		if err != nil {
			return err
		}
		// One document: where it is a problem, that is the document.
		if need := st.Need(); need != nil && s.documents() {
			return need
		}
		return errors.Join(show(st, withoutVote(ctx, n)), st.Need())
	})
}

// withoutVote names the control-plane nodes without a member of the datastore.
// Without an API server nobody knows them, and the datastore has to be shown
// then, above all.
func withoutVote(ctx context.Context, n *operation.Node) []string {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	names := []string{}
	all, err := n.Members(ctx)
	if err != nil {
		return names
	}
	for _, m := range all {
		if m.NoVote {
			names = append(names, m.Name)
		}
	}
	return names
}

func printWithout(w io.Writer, names []string) error {
	if len(names) == 0 {
		return nil
	}
	_, err := fmt.Fprintf(w, "no vote: %s (API servers that use the members above)\n", strings.Join(names, ", "))
	return err
}

func readDatastore(ctx context.Context, n *operation.Node) (_ *datastore.Status, err error) {
	if n.Record == nil || n.Record.ClusterID == "" {
		return nil, operation.ErrNoNode
	}
	if n.Record.Role != node.ControlPlane {
		return nil, &problem{Reason: "WORKER", Message: "this node is a worker: it holds no part of the datastore", exit: exitFailed,
			state: unchanged, Next: []string{"the same command on a control-plane node"}}
	}
	client, err := n.Datastore()
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, client.Close()) }()
	st, err := client.Status(ctx)
	if err != nil {
		return nil, &problem{Reason: "DATASTORE_SILENT", Message: "no member of the datastore answers", Why: err.Error(), exit: exitNotReady,
			Next: []string{"mk status", "mk logs etcd --since 5m"}, err: err}
	}
	return st, nil
}

func printDatastore(w io.Writer, st *datastore.Status) error {
	quorum := "no: nothing can be changed"
	if st.Quorum {
		quorum = "yes"
	}
	leader := st.Leader
	if leader == "" {
		leader = "none"
	}
	fmt.Fprintf(w, "quorum: %s\nleader: %s\nvoters: %d, of which %d answer\n", quorum, leader, len(st.Voters()), len(st.Voters())-len(st.Silent()))
	for _, a := range st.Alarms {
		fmt.Fprintf(w, "alarm: %s\n", a)
	}
	return printMembers(w, st.Members)
}

func printMembers(w io.Writer, members []datastore.Member) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "NAME\tADDRESS\tROLE\tSTATE\tSIZE\tBEHIND\tVERSION")
	for i := range members {
		m := &members[i]
		if !m.Answers {
			fmt.Fprintf(t, "%s\t%s\t%s\t%s\t-\t-\t-\n", m.Label(), m.PeerAddress, m.Role, silence(m))
			continue
		}
		state := "answers"
		if m.Leader {
			state = "leads"
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%.1f MiB\t%d\t%s\n", m.Label(), m.PeerAddress, m.Role, state, float64(m.Size)/(1<<20), m.Lag, m.Version)
	}
	return t.Flush()
}

// silence says since when a member is silent; where that is not known, why.
func silence(m *datastore.Member) string {
	if m.Since.IsZero() {
		return fmt.Sprintf("silent: %.80s", m.Silence)
	}
	return "silent since " + m.Since.Format("2006-01-02 15:04 MST")
}

// noQuorum is the problem of a datastore that cannot commit.
func noQuorum(e *datastore.QuorumError) *problem {
	var silent []string
	for _, m := range e.Status.Silent() {
		text := fmt.Sprintf("%s (%s) silent", m.Label(), m.Host())
		if !m.Since.IsZero() {
			text += " since " + m.Since.Format("15:04")
		}
		silent = append(silent, text)
	}
	return &problem{Reason: "NO_QUORUM", Message: e.Error(), exit: exitNotReady,
		Why: strings.Join(append(silent, "pods run on; nothing can be changed"), ", "),
		Next: []string{"bring one of them back: it heals by itself",
			"where they are gone for good: mk datastore recover      (read this first: mk help quorum)"}}
}

// datastoreRecover goes on with this node's data alone, where a person who
// typed the node's name wants that.
func (s *session) datastoreRecover(c *cli.Context) error {
	if err := s.root("datastore recover"); err != nil {
		return err
	}
	return s.open("datastore recover", func(n *operation.Node) error {
		ctx, cancel := s.bounded(c)
		defer cancel()
		r := recovery.Of(n)
		open, err := n.Journal.Open()
		if err != nil {
			return err
		}
		if open == nil || open.Verb != operation.RecoverVerb {
			if err := s.agreeToRecover(ctx, r); err != nil || s.global.dryRun {
				return err
			}
		}
		if err := r.Recover(ctx); err != nil {
			return err
		}
		result := map[string]string{"node": n.Record.Name, "state": "recovered"}
		return s.show(result, func(w io.Writer) error {
			_, err := fmt.Fprintf(w, "the cluster goes on with the data of %s; nodes that come back are told to leave and join (mk add-node)\n", n.Record.Name)
			return err
		})
	})
}

func (s *session) agreeToRecover(ctx context.Context, r recovery.Node) error {
	p, err := r.Consider(ctx)
	if err != nil {
		return err
	}
	if s.global.dryRun {
		return s.showPlan(&operation.Plan{Then: []string{"save the datastore as it is", "stop Kubernetes and the datastore", "make a datastore with a new identity",
			"keep the old data aside", "prepare for the pods", "start the services", "let this node in", "forget " + strings.Join(p.Loses, " and ")}})
	}
	return s.agree(fmt.Sprintf("The cluster goes on with what %s holds; what only %s held is lost, and they must leave and join again.",
		p.Keeps, strings.Join(p.Loses, " and ")), p.Keeps)
}
