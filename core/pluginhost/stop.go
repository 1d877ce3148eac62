package pluginhost

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"

	"google.golang.org/grpc"

	"mk8s.io/mk/sdk/client"
	"mk8s.io/mk/sdk/hostrpc"
	"mk8s.io/mk/sdk/peercred"
)

// Gone is closed when the plugin's process has ended.
func (p *Plugin) Gone() <-chan struct{} { return p.gone }

// Close ends the plugin: politely at first, by force after killTimeout. It
// removes what the start made.
func (p *Plugin) Close() error {
	p.stopOnce.Do(func() {
		if p.process != nil {
			p.end()
		}
		if p.answers != nil {
			p.answers.Stop()
		}
		p.stop = os.RemoveAll(p.dir)
	})
	return p.stop
}

// end asks the plugin to stop. go-plugin's Kill waits for an answer without
// bound, so a timer stands beside it: once the process is killed it returns.
func (p *Plugin) end() {
	ended := make(chan struct{})
	go func() {
		p.process.Kill()
		close(ended)
	}()
	timer := time.NewTimer(killTimeout)
	defer timer.Stop()
	select {
	case <-ended:
	case <-timer.C:
		p.kill()
		<-ended
	}
}

func (p *Plugin) kill() {
	if r := p.runner.r; r != nil && r.cmd != nil {
		r.killGroup()
	}
}

// serveAnswers serves the host's callbacks on a socket in the plugin's own
// folder. One socket for each start gives the caller its identity.
func (h *Host) serveAnswers(p *Plugin) (string, error) {
	socket := filepath.Join(p.dir, "host")
	l, err := (&net.ListenConfig{}).Listen(context.Background(), "unix", socket) //nolint:forbidigo // ends with Close
	if err != nil {
		return "", fmt.Errorf("listen for the plugin's questions: %w", err)
	}
	if err := own(socket, h.uid(p.Spec), 0o600); err != nil {
		return "", errors.Join(err, l.Close())
	}
	allow := peercred.RootOrSelf
	if h.options.Isolate {
		allow = peercred.Only(uint32(p.UID)) //nolint:gosec // a uid
	}
	p.answers = grpc.NewServer(grpc.Creds(peercred.New(allow)), grpc.MaxRecvMsgSize(1<<20))
	hostrpc.Register(p.answers, h.options.Answer(p.Spec))
	go func() { _ = p.answers.Serve(l) }() // ends with Stop
	return socket, nil
}

// CrashError says that a plugin ended while it was asked.
type CrashError struct {
	Plugin   string
	Version  string
	Question string
	Reason   string
	Lines    []string // the last of its log
}

// Error is what happened; the lines are for whoever asks for more.
func (e *CrashError) Error() string {
	s := fmt.Sprintf("plugin %s %s stopped while it was asked to %s", e.Plugin, e.Version, e.Question)
	if e.Reason != "" {
		s += ": " + e.Reason
	}
	return s
}

// Explain adds to the error of a question why the process went away, if it
// did, and who failed.
func (p *Plugin) Explain(question string, err error) error {
	if err == nil {
		return nil
	}
	if client.Lost(err) {
		timer := time.NewTimer(drainTimeout * 2)
		defer timer.Stop()
		select {
		case <-p.gone:
		case <-timer.C:
		}
		return &CrashError{Plugin: p.Identity.String(), Version: p.Identity.Version, Question: question,
			Reason: firstLine(p.log.Panic()), Lines: p.log.Lines()}
	}
	return fmt.Errorf("%s %s: %w", p.Identity, p.Identity.Version, err)
}

// explain adds the last lines of a plugin that did not start.
func (p *Plugin) explain(err error) error {
	if reason := p.log.Panic(); reason != "" {
		return fmt.Errorf("%w (%s)", err, firstLine(reason))
	}
	if lines := p.log.Lines(); len(lines) > 0 {
		return fmt.Errorf("%w; its last line: %.200s", err, strings.TrimSpace(lines[len(lines)-1]))
	}
	return err
}
