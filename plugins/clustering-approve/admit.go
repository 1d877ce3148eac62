package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"mk8s.io/mk/sdk/clustering"
	"mk8s.io/mk/sdk/plugin"
	"mk8s.io/mk/sdk/state"
)

// Reasons of joins that are refused.
const (
	JoinDenied     plugin.Reason = "JOIN_DENIED"
	NotApproved    plugin.Reason = "NOT_APPROVED_IN_TIME"
	NameWaits      plugin.Reason = "NAME_WAITS"
	TooManyWait    plugin.Reason = "TOO_MANY_WAIT"
	NobodyWaits    plugin.Reason = "NOBODY_WAITS"
	AlreadyDecided plugin.Reason = "ALREADY_DECIDED"
	waitingName                  = "waiting.json"
	mostWaiting                  = 100
	askAgain                     = 2 * time.Second
	decisionHolds                = time.Hour        // for the join that it was made about
	present                      = 2 * time.Minute  // without a word, a joiner is gone
	noteEvery                    = 20 * time.Second // a joiner's word is noted
	longestReason                = 200
)

// waiting are the joins that wait or were decided, by the joiner's name.
type waiting struct {
	Joins map[string]*join `json:"joins"`
}

// join is one join and what was decided about it. It is about one operation of
// one joiner: another join under the same name is decided anew.
type join struct {
	Operation string    `json:"operation"`
	Address   string    `json:"address"`
	Role      string    `json:"role"`
	Since     time.Time `json:"since"`
	Seen      time.Time `json:"seen"`
	Decided   time.Time `json:"decided,omitzero"`
	Approved  bool      `json:"approved,omitempty"`
	Reason    string    `json:"reason,omitempty"`
}

// waits tells that nobody has decided, and that the joiner is still there.
func (j *join) waits(now time.Time) bool { return j.Decided.IsZero() && now.Sub(j.Seen) < present }

// over tells that a join is to be forgotten.
func (j *join) over(now time.Time) bool {
	if j.Decided.IsZero() {
		return now.Sub(j.Seen) >= present
	}
	return now.Sub(j.Decided) >= decisionHolds
}

// same tells whether a decision about j is one about the joiner of r.
func (j *join) same(r clustering.AdmitRequest) bool {
	return j.Operation == r.Call.OperationID && j.Address == r.Joiner.Address && j.Role == r.Joiner.Role
}

// Admit refuses whom etcd's rules refuse, and has all others wait until a
// person decides, or for as long as the setting timeout says.
func (p *Approve) Admit(ctx context.Context, r clustering.AdmitRequest) (clustering.Verdict, error) {
	verdict, err := p.Etcd.Admit(ctx, r)
	if err != nil || verdict.Admitted == nil {
		return verdict, err
	}
	if r.Call.OperationID == "" {
		return clustering.Verdict{}, plugin.Errorf(plugin.BadArgument, "the question carries no operation id")
	}
	dir, s, err := p.configured()
	if err != nil {
		return clustering.Verdict{}, err
	}
	var out clustering.Verdict
	err = dir.Change(ctx, func(l *state.Locked) error {
		w := waiting{}
		if err := l.Read(waitingName, &w); err != nil {
			return err
		}
		var changed bool
		if out, changed = w.admit(r, verdict, p.now().UTC(), s.wait); changed {
			return l.Write(waitingName, w)
		}
		return nil
	})
	if err != nil {
		return clustering.Verdict{}, fmt.Errorf("note who wants to join: %w", err)
	}
	return out, nil
}

// admit decides from what is known; changed says that it has to be kept.
func (w *waiting) admit(r clustering.AdmitRequest, yes clustering.Verdict, now time.Time, wait time.Duration) (out clustering.Verdict, changed bool) {
	j := w.Joins[r.Joiner.Name]
	if j != nil && !j.same(r) {
		if j.waits(now) && j.Address != r.Joiner.Address && j.Operation != r.Call.OperationID {
			return denied(NameWaits, "another node, at %s, waits to join as %s", j.Address, r.Joiner.Name), false
		}
		j = nil // the same machine tries anew, or the other one is decided or gone
	}
	if j == nil || j.over(now) {
		return w.begin(r, now)
	}
	switch {
	case j.Decided.IsZero() && now.Sub(j.Since) >= wait:
		delete(w.Joins, r.Joiner.Name)
		return denied(NotApproved, "nobody approved %s within %s", r.Joiner.Name, wait), true
	case j.Decided.IsZero():
		changed = now.Sub(j.Seen) >= noteEvery
		if changed {
			j.Seen = now
		}
		return notYet(r), changed
	case j.Approved:
		return yes, false
	}
	why := "a person denied it"
	if j.Reason != "" {
		why += ": " + j.Reason
	}
	return denied(JoinDenied, "%s may not join: %s", r.Joiner.Name, why), false
}

// begin notes a joiner that is new.
func (w *waiting) begin(r clustering.AdmitRequest, now time.Time) (out clustering.Verdict, changed bool) {
	maps.DeleteFunc(w.Joins, func(_ string, j *join) bool { return j.over(now) })
	delete(w.Joins, r.Joiner.Name)
	if len(w.Joins) >= mostWaiting {
		return denied(TooManyWait, "%d joins wait or were decided within an hour; try again later", len(w.Joins)), false
	}
	if w.Joins == nil {
		w.Joins = map[string]*join{}
	}
	w.Joins[r.Joiner.Name] = &join{Operation: r.Call.OperationID, Address: r.Joiner.Address, Role: r.Joiner.Role, Since: now, Seen: now}
	return notYet(r), true
}

func notYet(r clustering.AdmitRequest) clustering.Verdict {
	return clustering.Verdict{NotYet: &plugin.NotYet{
		RetryAfter: askAgain, WaitingFor: fmt.Sprintf("a person: on %s, mk node approve %s", r.Node.Name, r.Joiner.Name),
	}}
}

func denied(reason plugin.Reason, format string, a ...any) clustering.Verdict {
	return clustering.Verdict{Denied: &clustering.Denied{Reason: reason, Message: fmt.Sprintf(format, a...)}}
}

// Pending lists who waits and is still there, the longest first.
func (p *Approve) Pending(ctx context.Context) ([]clustering.PendingJoin, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	dir, _, err := p.configured()
	if err != nil {
		return nil, err
	}
	w, now := waiting{}, p.now()
	if err := dir.Read(waitingName, &w); err != nil {
		return nil, err
	}
	var out []clustering.PendingJoin
	for name, j := range w.Joins {
		if j.waits(now) {
			out = append(out, clustering.PendingJoin{Name: name, Address: j.Address, Role: j.Role, Since: j.Since, OperationID: j.Operation})
		}
	}
	slices.SortFunc(out, func(a, b clustering.PendingJoin) int {
		if c := a.Since.Compare(b.Since); c != 0 {
			return c
		}
		return strings.Compare(a.Name, b.Name)
	})
	return out, nil
}

// Decide admits or refuses who waits under a name. Decided once, it stays so:
// the same decision again is no error, the other one is.
func (p *Approve) Decide(ctx context.Context, d clustering.Decision) error {
	dir, _, err := p.configured()
	if err != nil {
		return err
	}
	if len(d.Reason) > longestReason {
		return plugin.Errorf(plugin.BadArgument, "the reason has %d letters, at most %d are allowed", len(d.Reason), longestReason)
	}
	now := p.now().UTC()
	question := fmt.Sprintf("decide %s %t", d.Name, d.Approve)
	_, err = state.Once(ctx, dir, now, d.Call.OperationID, question, func(l *state.Locked) (bool, error) {
		w := waiting{}
		if err := l.Read(waitingName, &w); err != nil {
			return false, err
		}
		j := w.Joins[d.Name]
		switch {
		case j == nil || j.over(now):
			return false, &plugin.Error{Reason: NobodyWaits, Message: fmt.Sprintf("no node waits to join as %.80q here", d.Name),
				Next: "mk node list --pending, on the node that serves the join"}
		case j.Decided.IsZero():
			j.Decided, j.Approved, j.Reason = now, d.Approve, d.Reason
			return true, l.Write(waitingName, w)
		case j.Approved != d.Approve:
			return false, plugin.Errorf(AlreadyDecided, "the join of %s was decided otherwise at %s", d.Name, j.Decided.Format(time.RFC3339))
		}
		return true, nil
	})
	if errors.Is(err, state.ErrNoOperation) {
		return plugin.Errorf(plugin.BadArgument, "%v", err)
	}
	return err
}
