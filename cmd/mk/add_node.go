package main

import (
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"mk8s.io/mk/core/cluster"
	"mk8s.io/mk/core/membership"
	"mk8s.io/mk/core/operation"
	"mk8s.io/mk/sdk/clustering"
)

// shortestToken is MicroK8s' bound for a token that a person chooses.
const shortestToken = 32

// The bounds of what a token is good for: a hundred years, a million nodes.
const (
	longestToken = 100 * 365 * 24 * 3600
	mostUses     = 1_000_000
)

// addNode prints what another machine needs to join.
func (s *session) addNode() *cli.Command {
	return &cli.Command{
		Name: "add-node", Usage: "invite another machine into this cluster",
		Description: "sudo mk add-node\nsudo mk add-node --worker --token-ttl 3600", UsageText: exitsUsual,
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "token", Aliases: []string{"t"}, Usage: "a `TOKEN` of your own, 32 characters at least"},
			&cli.GenericFlag{Name: "token-ttl", Aliases: []string{"l"}, Usage: "how long the token is good, in `SECONDS`; -1: for one node, without an end",
				Value: &number{value: -1, but: -1, least: 1, most: longestToken, bounds: fmt.Sprintf("1 to %d seconds, or -1", longestToken)}},
			&cli.GenericFlag{Name: "uses", Usage: "for how many nodes the token is good; 0: with --token-ttl any number, else one",
				Value: &number{most: mostUses, bounds: fmt.Sprintf("0 to %d", mostUses)}},
			&cli.BoolFlag{Name: "worker", Usage: "the token lets in workers only"},
			&cli.BoolFlag{Name: "watch", Usage: "stay, and show who joins with it, until it is used up"},
		},
		Action: func(c *cli.Context) error {
			if err := s.root("add-node"); err != nil {
				return err
			}
			o, err := inviteOptions(c)
			if err != nil {
				return err
			}
			if c.Bool("watch") && s.documents() {
				return usage("--watch does not go with one document: leave out -o %s", s.global.output)
			}
			return s.open("add-node", func(n *operation.Node) error {
				ctx, cancel := s.bounded(c)
				defer cancel()
				if s.global.dryRun {
					return s.showPlan(&operation.Plan{Then: []string{"make a token"}})
				}
				invitation, err := membership.Of(n).Invite(ctx, o)
				if err != nil {
					return err
				}
				guests, err := membership.Of(n).GuestStrings(invitation)
				if err != nil {
					return err
				}
				if err := s.showInvitation(invitation, o.Worker, guests); err != nil || !c.Bool("watch") {
					return err
				}
				return membership.Of(n).WatchToken(ctx, invitation.Token, s.showArrival)
			})
		},
	}
}

func inviteOptions(c *cli.Context) (membership.InviteOptions, error) {
	o := membership.InviteOptions{Token: c.String("token"), Worker: c.Bool("worker")}
	if n, ok := c.Generic("uses").(*number); ok {
		o.Uses = uint32(n.value) //nolint:gosec // the flag is bounded
	}
	ttl := int64(-1)
	if n, ok := c.Generic("token-ttl").(*number); ok {
		ttl = n.value
	}
	switch {
	case c.IsSet("token") && len(o.Token) < shortestToken:
		return o, usage("--token has %d characters: %d at least", len(o.Token), shortestToken)
	case strings.ContainsAny(o.Token, "/|\n\r\t ") || strings.ContainsFunc(o.Token, func(r rune) bool { return r < '!' || r > '~' }):
		return o, usage("--token: letters, digits and signs but / and |")
	case ttl > 0:
		o.Lifetime = time.Duration(ttl) * time.Second
	case o.Uses == 0:
		o.Uses = 1
	}
	return o, nil
}

// invitationOutputs are the formats that only an invitation has.
func invitationOutputs() []string { return []string{"token", "token-check"} }

// showInvitation prints in all the formats that MicroK8s has.
func (s *session) showInvitation(i clustering.Invitation, worker bool, guests []string) error {
	first := i.ConnectionStrings[0]
	tail := first[strings.IndexByte(first, '/')+1:] // token/check
	flag := ""
	if worker {
		flag = " --worker"
	}
	switch s.global.output {
	case "token":
		s.printf("%s\n", i.Token)
		return nil
	case "token-check":
		s.printf("%s\n", tail)
		return nil
	case "short":
		for _, url := range i.ConnectionStrings {
			s.printf("mk join %s%s\n", url, flag)
		}
		return nil
	}
	result := struct {
		Token    string     `json:"token"`
		URLs     []string   `json:"urls"`
		MicroK8s []string   `json:"microk8s,omitempty"` // for its own clients
		Expires  *time.Time `json:"expires,omitempty"`
	}{Token: tail, URLs: i.ConnectionStrings, MicroK8s: guests}
	if !i.Expires.IsZero() {
		result.Expires = &i.Expires
	}
	return s.show(result, func(w io.Writer) error {
		fmt.Fprintf(w, "On the machine that is to join:\n\n  sudo mk join %s%s\n\n", first, flag)
		if !worker {
			fmt.Fprintf(w, "As a worker, which runs pods and no control plane:\n\n  sudo mk join %s --worker\n\n", first)
		}
		if len(i.ConnectionStrings) > 1 {
			fmt.Fprintln(w, "If it does not reach this address, one of these:")
			for _, url := range i.ConnectionStrings[1:] {
				fmt.Fprintf(w, "  sudo mk join %s%s\n", url, flag)
			}
		}
		if len(guests) > 0 {
			fmt.Fprintf(w, "On a MicroK8s node, which joins as a worker:\n\n  microk8s join %s --worker\n", guests[0])
		}
		return nil
	})
}

// showArrival says where a join stands.
func (s *session) showArrival(a membership.Arrival) {
	switch a.State {
	case cluster.Joining:
		s.printf("%s (%s) joins as a %s node\n", a.Name, a.Address, a.Role)
	case cluster.Joined:
		s.printf("%s (%s) has joined\n", a.Name, a.Address)
	default:
		s.printf("%s (%s) has given up\n", a.Name, a.Address)
	}
}
