package operation

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"sync"
	"time"

	"mk8s.io/mk/core/cluster"
	"mk8s.io/mk/core/defaults"
	"mk8s.io/mk/core/node"
	"mk8s.io/mk/core/peer"
	"mk8s.io/mk/core/service"
	"mk8s.io/mk/core/service/logfile"
	"mk8s.io/mk/sdk/plugin"
)

// lastLines is how much is shown of each log where no time is given.
const lastLines = 100

// LogQuery says what of the logs is shown.
type LogQuery struct {
	Services []string      // none means all
	Some     bool          // what this node does not run is left out
	Since    time.Duration // 0 means the last lines
	Level    logfile.Level
	Follow   bool // go on as lines are written
}

// Logs are logs of this node. They are read without the node, once it gave
// them.
type Logs struct {
	Services []string
	paths    []string
	folder   string
	query    LogQuery
	now      time.Time
}

// Logs finds the logs that are asked for. Only services of mk have some; their
// names lead to no other file.
func (n *Node) Logs(q LogQuery) (*Logs, error) {
	own, names := n.LogNames(), q.Services
	if len(names) == 0 {
		names = own
	}
	if q.Some {
		names = slices.DeleteFunc(slices.Clone(names), func(s string) bool {
			return slices.Contains(logsAnywhere(), service.Alias(s)) && !slices.Contains(own, service.Alias(s))
		})
	}
	l := &Logs{folder: n.Root.Path("var/log"), query: q, now: n.Now()}
	var err error
	if l.Services, err = resolve(names, own); err != nil {
		return nil, err
	}
	for _, s := range l.Services {
		l.paths = append(l.paths, n.Root.Logs(s))
	}
	return l, nil
}

// LogNames are the logs that this node has.
func (n *Node) LogNames() []string { return append(n.serviceNames(), "mk") }

// logsAnywhere are the logs that nodes of any role have.
func logsAnywhere() []string {
	all := append(defaults.ServiceNames(node.ControlPlane), defaults.ServiceNames(node.Worker)...)
	all = append(all, "mk")
	slices.Sort(all)
	return slices.Compact(all)
}

// CheckLogNames reports a name that is no log of any node.
func CheckLogNames(names []string) error {
	_, err := resolve(names, logsAnywhere())
	return err
}

func (l *Logs) keep(e logfile.Entry) bool { return e.Level >= l.query.Level }

// Lines yields what was written, in the order of time. An error is yielded
// once, last.
func (l *Logs) Lines() iter.Seq2[logfile.Entry, error] {
	return func(yield func(logfile.Entry, error) bool) {
		var logs []iter.Seq2[logfile.Entry, error]
		for i, name := range l.Services {
			log, err := l.log(l.paths[i], logfile.NewReader(name, l.now))
			if err != nil {
				yield(logfile.Entry{}, err)
				return
			}
			logs = append(logs, log)
		}
		for e, err := range logfile.Merge(logs...) {
			if err == nil && !l.keep(e) {
				continue
			}
			if !yield(e, err) || err != nil {
				return
			}
		}
	}
}

// log is what is shown of one log before it is followed.
func (l *Logs) log(path string, r *logfile.Reader) (iter.Seq2[logfile.Entry, error], error) {
	if l.query.Since > 0 {
		return logfile.Since(path, r, l.now.Add(-l.query.Since)), nil
	}
	last, err := logfile.Last(path, r, lastLines, l.keep)
	return func(yield func(logfile.Entry, error) bool) {
		for _, e := range last {
			if !yield(e, nil) {
				return
			}
		}
	}, err
}

// Follow shows what is written from now on, until ctx ends, which is no error.
func (l *Logs) Follow(ctx context.Context, show func(logfile.Entry)) error {
	readers := map[string]*logfile.Reader{}
	for i, name := range l.Services {
		readers[l.paths[i]] = logfile.NewReader(name, l.now)
	}
	return logfile.Follow(ctx, l.folder, readers, func(e logfile.Entry) {
		if l.keep(e) {
			show(e)
		}
	})
}

const (
	// mostLogNodes bounds the nodes whose logs are read at once: each has a
	// connection of its own.
	mostLogNodes = 64
	// MaxLogs bounds what one node tells of its logs, when they are not followed.
	MaxLogs = 64 << 20
	// waitingLines are how many lines of a node wait for those of others.
	waitingLines = 16
)

// LogsOf shows the logs of nodes, this one's included: in the order of time,
// or, followed, as they come. silent hears of each node that does not answer,
// or no more, when that happens. Only one of the two is called at a time. It
// answers the names of the nodes that were asked.
func (n *Node) LogsOf(ctx context.Context, where Where, q LogQuery, show func(logfile.Entry), silent func(node string, err error)) ([]string, error) {
	if err := n.checkFar(ctx, where); err != nil {
		return nil, err
	}
	members, options, err := n.selected(ctx, where)
	if err != nil {
		return nil, err
	}
	if len(members) > mostLogNodes {
		return nil, &plugin.Error{Reason: plugin.NotPossible, Next: "mk logs --node NODE",
			Message: fmt.Sprintf("the cluster has %d nodes; logs of no more than %d are read at once", len(members), mostLogNodes)}
	}
	q.Some = where.All
	f := farLogs{query: q, options: options, show: show, silent: silent}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var names []string
	var all []iter.Seq2[logfile.Entry, error]
	for _, m := range members {
		names = append(names, m.Name)
		all = append(all, f.begin(ctx, m))
	}
	defer f.running.Wait()
	defer cancel()
	if q.Follow {
		f.asTheyCome(all)
		return names, nil
	}
	f.each(logfile.Merge(all...))
	return names, nil
}

// farLogs reads logs of other nodes.
type farLogs struct {
	query   LogQuery
	options peer.Options

	running sync.WaitGroup
	mu      sync.Mutex // held by whoever calls one of these
	show    func(logfile.Entry)
	silent  func(string, error)
}

// begin asks a node, and yields what it says without an error: who is silent
// is told of.
func (f *farLogs) begin(ctx context.Context, m *cluster.Member) iter.Seq2[logfile.Entry, error] {
	lines := make(chan logfile.Entry, waitingLines)
	f.running.Go(func() {
		defer close(lines)
		c := peer.New(m.Agent(), f.options)
		defer c.Close()
		for e, err := range linesOf(ctx, c, f.query) {
			if err != nil {
				if ctx.Err() == nil || errors.Is(ctx.Err(), context.DeadlineExceeded) {
					f.mu.Lock()
					f.silent(m.Name, err)
					f.mu.Unlock()
				}
				return
			}
			e.Node = m.Name
			select {
			case lines <- e:
			case <-ctx.Done():
				return
			}
		}
	})
	return func(yield func(logfile.Entry, error) bool) {
		for e := range lines {
			if !yield(e, nil) {
				return
			}
		}
	}
}

// asTheyCome shows the lines of several nodes.
func (f *farLogs) asTheyCome(all []iter.Seq2[logfile.Entry, error]) {
	var wg sync.WaitGroup
	for _, lines := range all {
		wg.Go(func() { f.each(lines) })
	}
	wg.Wait()
}

func (f *farLogs) each(lines iter.Seq2[logfile.Entry, error]) {
	for e := range lines {
		f.mu.Lock()
		f.show(e)
		f.mu.Unlock()
	}
}

// linesOf asks one agent for its logs.
func linesOf(ctx context.Context, c *peer.Client, q LogQuery) iter.Seq2[logfile.Entry, error] {
	return func(yield func(logfile.Entry, error) bool) {
		most := int64(2 * MaxLogs) // with what JSON adds
		if q.Follow {
			most = 0
		}
		asked := peer.Logs{Services: q.Services, Some: q.Some, Since: q.Since, Level: q.Level.String(), Follow: q.Follow}
		for line, err := range c.Lines(ctx, peer.LogsPath, asked, most) {
			var e logfile.Entry
			if err == nil {
				e, err = farEntry(line)
			}
			if !yield(e, err) || err != nil {
				return
			}
		}
	}
}

// farEntry is a line as another node wrote it.
func farEntry(line []byte) (logfile.Entry, error) {
	l, err := peer.ParseLogLine(line)
	if err != nil {
		return logfile.Entry{}, err
	}
	level, _ := logfile.ParseLevel(l.Level)
	return logfile.Entry{Service: l.Service, Time: l.Time, Level: level, Text: l.Text}, nil
}
