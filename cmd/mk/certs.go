package main

import (
	"fmt"
	"io"
	"os"
	"text/tabwriter"
	"time"

	"github.com/urfave/cli/v2"

	"mk8s.io/mk/core/operation"
)

func (s *session) certsVerbs() *cli.Command {
	return &cli.Command{
		Name: "certs", Aliases: []string{"cert"}, Usage: "list, show, check and renew this node's certificates",
		Description: "mk certs\nsudo mk certs renew server", UsageText: exitsUsual + ", 4 one ends soon",
		Action: s.listCerts,
		Subcommands: []*cli.Command{
			{Name: "list", Usage: "list the certificates and when they end", Description: "mk certs list", UsageText: exitsRead, Action: s.listCerts},
			{Name: "show", Usage: "show one certificate, or where the authority's key is", ArgsUsage: "CERTIFICATE|ca", Description: "mk certs show server\nmk certs show ca", UsageText: exitsRead, Action: s.showCert},
			{Name: "check", Usage: "say what is wrong with them", Description: "mk certs check", UsageText: exitsRead + ", 4 something is wrong", Action: s.checkCerts},
			{Name: "renew", Usage: "renew some or all", ArgsUsage: "[CERTIFICATE...]", Description: "sudo mk certs renew", UsageText: exitsUsual, Action: s.renewCerts},
		},
	}
}

func (s *session) listCerts(*cli.Context) error {
	return s.open("certs", func(n *operation.Node) error {
		list, err := n.Certificates()
		if err != nil {
			return err
		}
		return s.show(list, func(w io.Writer) error {
			t := tabwriter.NewWriter(w, 0, 4, 2, ' ', 0)
			fmt.Fprintln(t, "CERTIFICATE\tENDS\tIN\tRENEWED\tSTATE")
			for _, c := range list {
				fmt.Fprintf(t, "%s\t%s\t%d days\t%s\t%s\n", c.Profile, c.NotAfter.UTC().Format(time.DateTime),
					int(time.Until(c.NotAfter).Hours()/24), c.RenewAt.UTC().Format(time.DateOnly), c.State)
			}
			return t.Flush()
		})
	})
}

func (s *session) showCert(c *cli.Context) error {
	if c.Args().Len() != 1 {
		return usage("mk certs show: which certificate?")
	}
	return s.open("certs", func(n *operation.Node) error {
		name := c.Args().First()
		if name == "ca" {
			return s.showAuthorities(c, n)
		}
		if err := n.CheckProfiles([]string{name}); err != nil {
			return usage("%s", err.Error())
		}
		info, err := n.Certificate(name)
		if err != nil {
			return err
		}
		return s.show(info, func(w io.Writer) error {
			_, err := fmt.Fprintln(w, info.Text)
			return err
		})
	})
}

// showAuthorities asks the plugins where their keys are; that takes root.
func (s *session) showAuthorities(c *cli.Context, n *operation.Node) error {
	if os.Geteuid() != 0 {
		return s.root("certs show ca")
	}
	list, err := n.Authorities(c.Context)
	if err != nil {
		return err
	}
	return s.show(list, func(w io.Writer) error {
		t := tabwriter.NewWriter(w, 0, 4, 2, ' ', 0)
		for _, a := range list {
			fmt.Fprintf(t, "%s\t%s\tkey: %s\n", a.Name, a.Plugin, a.KeyLocation)
		}
		return t.Flush()
	})
}

func (s *session) checkCerts(*cli.Context) error {
	return s.open("certs", func(n *operation.Node) error {
		list, err := n.Certificates()
		if err != nil {
			return err
		}
		bad := 0
		for _, c := range list {
			bad += len(c.Reasons)
		}
		err = s.show(list, func(w io.Writer) error {
			for _, c := range list {
				for _, r := range c.Reasons {
					fmt.Fprintf(w, "%s: %s\n", c.Profile, r.Text)
				}
			}
			if bad == 0 {
				fmt.Fprintln(w, "all certificates are as they should be")
			}
			return nil
		})
		if err == nil && bad > 0 {
			return &problem{Reason: "CERTIFICATES", Message: fmt.Sprintf("%d faults in this node's certificates", bad), exit: exitNotReady, Next: []string{"sudo mk certs renew"}}
		}
		return err
	})
}
