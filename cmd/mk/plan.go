package main

import (
	"fmt"
	"io"
	"text/tabwriter"

	"mk8s.io/mk/core/operation"
)

// showPlan prints what a dry run found out.
func (s *session) showPlan(p *operation.Plan) error {
	return s.show(p, func(w io.Writer) error {
		writePlan(w, p)
		_, err := fmt.Fprintln(w, "dry run: nothing was changed")
		return err
	})
}

func writePlan(w io.Writer, p *operation.Plan) {
	t := tabwriter.NewWriter(w, 0, 4, 2, ' ', 0)
	for _, l := range p.Changes {
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\n", l.Verb, l.Target, l.Effect, l.Why)
	}
	_ = t.Flush() // a terminal, or the output of show, which keeps its error
	for _, step := range p.Then {
		fmt.Fprintf(w, "then  %s\n", step)
	}
}
