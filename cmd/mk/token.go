package main

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/urfave/cli/v2"

	"mk8s.io/mk/core/operation"
	"mk8s.io/mk/sdk/plugin"
	"mk8s.io/mk/sdk/tokens"
)

// tokenVerbs list and end tokens. One is made by add-node.
func (s *session) tokenVerbs() *cli.Command {
	expired := func() cli.Flag {
		return &cli.BoolFlag{Name: "expired", Usage: "also those that were used up or have ended"}
	}
	return &cli.Command{
		Name: "token", Aliases: []string{"tokens"}, Usage: "list and revoke the tokens that let others join",
		Description: "sudo mk token list\nsudo mk token revoke 1f3a5c7e9b0d2f4a", UsageText: exitsUsual,
		Flags: []cli.Flag{expired()}, Action: s.listTokens,
		Subcommands: []*cli.Command{
			{Name: "list", Usage: "list the tokens, without their secrets", Description: "sudo mk token list --expired", UsageText: exitsUsual,
				Flags: []cli.Flag{expired()}, Action: s.listTokens},
			{Name: "revoke", Usage: "end a token", ArgsUsage: "ID", Description: "sudo mk token revoke 1f3a5c7e9b0d2f4a", UsageText: exitsUsual, Action: s.revokeToken},
		},
	}
}

// shownToken is a token as documents have it: no secret, times only where
// there are any.
type shownToken struct {
	ID         string          `json:"id"`
	Purpose    tokens.Purpose  `json:"purpose"`
	Role       string          `json:"role,omitempty"`
	BoundNames []string        `json:"boundNames,omitempty"`
	State      string          `json:"state"` // good, held, used or expired
	Created    time.Time       `json:"created"`
	Expires    time.Time       `json:"expires,omitzero"`
	UsesLeft   uint32          `json:"usesLeft"`
	Unbounded  bool            `json:"unbounded"`
	HeldBy     []shownClaimant `json:"heldBy,omitempty"`
}

// shownClaimant is who holds a token just now.
type shownClaimant struct {
	Name           string `json:"name,omitempty"`
	Address        string `json:"address,omitempty"`
	KeyFingerprint string `json:"keyFingerprint,omitempty"`
}

func showToken(t tokens.Token, now time.Time) shownToken {
	out := shownToken{
		ID: t.ID, Purpose: t.Purpose, Role: t.Role, BoundNames: t.BoundNames, State: "good", Created: t.Created,
		Expires: t.Expires, UsesLeft: t.UsesLeft, Unbounded: t.Unbounded,
	}
	for _, c := range t.ReservedBy {
		out.HeldBy = append(out.HeldBy, shownClaimant{Name: c.Name, Address: c.Address, KeyFingerprint: c.KeyFingerprint})
	}
	switch {
	case len(t.ReservedBy) > 0:
		out.State = "held"
	case !t.Unbounded && t.UsesLeft == 0:
		out.State = "used"
	case !t.Expires.IsZero() && !now.Before(t.Expires):
		out.State = "expired"
	}
	return out
}

func (s *session) listTokens(c *cli.Context) error {
	if err := s.root("token list"); err != nil { // a plugin is asked
		return err
	}
	return s.open("token list", func(n *operation.Node) error {
		all, err := n.Tokens(c.Context, c.Bool("expired"))
		if err != nil {
			return err
		}
		shown := make([]shownToken, 0, len(all))
		for _, t := range all {
			shown = append(shown, showToken(t, time.Now()))
		}
		return s.show(shown, func(w io.Writer) error { return printTokens(w, shown) })
	})
}

func printTokens(w io.Writer, all []shownToken) error {
	t := tabwriter.NewWriter(w, 0, 4, 2, ' ', 0)
	fmt.Fprintln(t, "ID\tPURPOSE\tROLE\tSTATE\tUSES LEFT\tEXPIRES\tFOR\tHELD BY")
	for _, x := range all {
		uses, expires, holders := fmt.Sprint(x.UsesLeft), "never", make([]string, 0, len(x.HeldBy))
		if x.Unbounded {
			uses = "any"
		}
		if !x.Expires.IsZero() {
			expires = x.Expires.Local().Format(time.DateTime)
		}
		for _, h := range x.HeldBy {
			holders = append(holders, holder(h))
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\n", x.ID, x.Purpose, word(x.Role, "any"), x.State, uses, expires,
			word(strings.Join(x.BoundNames, ","), "any"), word(strings.Join(holders, ","), "-"))
	}
	return t.Flush()
}

// holder is who holds a token, as people know it best.
func holder(c shownClaimant) string {
	return word(c.Name, word(c.Address, "key "+c.KeyFingerprint[:min(len(c.KeyFingerprint), 12)]))
}

func word(s, otherwise string) string {
	if s == "" {
		return otherwise
	}
	return s
}

func (s *session) revokeToken(c *cli.Context) error {
	if c.Args().Len() != 1 {
		return usage("mk token revoke: which token? Its ID stands in mk token list")
	}
	if err := s.root("token revoke"); err != nil {
		return err
	}
	id := c.Args().First()
	return s.open("token revoke", func(n *operation.Node) error {
		if s.global.dryRun {
			return s.showPlan(&operation.Plan{Then: []string{"revoke the token " + id}})
		}
		err := n.RevokeToken(c.Context, id)
		if e, ok := errors.AsType[*plugin.Error](err); ok && e.Reason == plugin.TokenUnknown {
			return unknown("token", id, nil, "sudo mk token list")
		}
		if err != nil {
			return err
		}
		if !s.documents() {
			s.printf("revoked %s\n", id)
		}
		return nil
	})
}
