package pluginhost

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"runtime/debug"
	"strings"
	"time"

	"github.com/hashicorp/go-hclog"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"mk8s.io/mk/sdk/client"
	"mk8s.io/mk/sdk/hostrpc"
)

// Gone is closed when the plugin's process has ended and its last line was
// read.
func (p *Plugin) Gone() <-chan struct{} { return p.gone }

// Close ends the plugin: politely at first, by force after politeTimeout, and
// answers within killTimeout whatever the plugin does. It removes what the
// start made. It may be called again.
func (p *Plugin) Close() error {
	p.stopOnce.Do(func() {
		var err error
		if p.process != nil {
			err = p.end()
		}
		if p.answers != nil {
			p.answers.Stop()
		}
		if p.runner != nil {
			_ = p.runner.program.Close() // closed already, or never there, if it ran
		}
		p.stop = errors.Join(err, os.RemoveAll(p.dir))
	})
	return p.stop
}

// end asks the plugin to stop. go-plugin's Kill waits for an answer without
// bound, so a timer stands beside it: once the process is killed it returns.
func (p *Plugin) end() error {
	ended := make(chan struct{})
	go func() {
		p.process.Kill()
		p.runner.end() // Kill leaves out what never shook hands
		close(ended)
	}()
	timer := time.NewTimer(politeTimeout)
	defer timer.Stop()
	select {
	case <-ended:
		return nil
	case <-timer.C:
	}
	p.runner.end()
	timer.Reset(killTimeout - politeTimeout)
	select {
	case <-ended:
		return nil
	case <-timer.C:
		return fmt.Errorf("process %s of %s does not end, although it was killed: the kernel holds it", p.runner.ID(), p.Identity)
	}
}

// serveAnswers serves the host's callbacks on a socket in the plugin's own
// folder. One socket for each start gives the caller its identity.
func (h *Host) serveAnswers(ctx context.Context, p *Plugin) (string, error) {
	socket := filepath.Join(p.dir, "host")
	l, err := (&net.ListenConfig{}).Listen(context.WithoutCancel(ctx), "unix", socket) // ends with Close
	if err != nil {
		return "", fmt.Errorf("listen for the plugin's questions: %w", err)
	}
	if err := own(socket, h.uid(p.Spec), 0o600); err != nil {
		return "", errors.Join(err, l.Close())
	}
	p.answers = grpc.NewServer(grpc.Creds(h.credentials(p)), grpc.MaxRecvMsgSize(1<<20), grpc.MaxConcurrentStreams(64),
		grpc.ConnectionTimeout(5*time.Second), grpc.ChainUnaryInterceptor(bounded, recovered(p.log.out)))
	hostrpc.Register(p.answers, h.options.Answer(p.Spec, &p.asked))
	go func() { _ = p.answers.Serve(l) }() // ends with Stop
	return socket, nil
}

// bounded gives every question of a plugin the deadline of the contract.
func bounded(ctx context.Context, req any, info *grpc.UnaryServerInfo, next grpc.UnaryHandler) (any, error) {
	ctx, cancel := context.WithTimeout(ctx, client.Deadline(info.FullMethod))
	defer cancel()
	return next(ctx, req)
}

// recovered keeps a plugin's question from ending the host.
func recovered(log hclog.Logger) grpc.UnaryServerInterceptor {
	return func(ctx context.Context, req any, info *grpc.UnaryServerInfo, next grpc.UnaryHandler) (resp any, err error) {
		defer func() {
			if cause := recover(); cause != nil {
				log.Error("panic while answering a plugin", "question", info.FullMethod, "cause", fmt.Sprint(cause), "stack", string(debug.Stack()))
				resp, err = nil, status.Error(codes.Internal, "the host failed to answer; its log says why")
			}
		}()
		return next(ctx, req)
	}
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
// did, and who failed. A process that closed its connection is ended: it can
// not be asked again.
func (p *Plugin) Explain(question string, err error) error {
	if err == nil {
		return nil
	}
	if !client.Lost(err) {
		return fmt.Errorf("%s %s: %s: %w", p.Identity, p.Identity.Version, question, err)
	}
	crash := &CrashError{Plugin: p.Identity.String(), Version: p.Identity.Version, Question: question}
	if !p.goneWithin(2 * drainTimeout) {
		crash.Reason = "it closed its connection"
		p.runner.end()
		p.goneWithin(2 * drainTimeout)
	}
	if line := firstLine(p.log.Panic()); line != "" {
		crash.Reason = line
	}
	crash.Lines = p.log.Lines()
	return crash
}

func (p *Plugin) goneWithin(d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-p.gone:
		return true
	case <-timer.C:
		return false
	}
}

// explain adds what a plugin that did not start said last, where that may be
// the reason.
func (p *Plugin) explain(err error) error {
	if reason := p.log.Panic(); reason != "" {
		return fmt.Errorf("%w (%s)", err, firstLine(reason))
	}
	if lines := p.log.Lines(); len(lines) > 0 && (p.Client == nil || client.Lost(err)) {
		return fmt.Errorf("%w; its last line: %.200s", err, strings.TrimSpace(lines[len(lines)-1]))
	}
	return err
}
