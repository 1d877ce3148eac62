package main

import (
	"encoding/json"
	"fmt"
	"io"
	"math"
	"os"
	"strings"
	"sync"
	"time"

	"golang.org/x/term"

	"mk8s.io/mk/core/operation"
)

// showAfter is how long something may take in silence.
const showAfter = time.Second

// lineWidth is what one line of a terminal surely shows.
const lineWidth = 79

// progress shows where an operation stands: a line when a step has begun a
// second ago, and one when it has ended. Quick steps are not shown.
type progress struct {
	w     io.Writer
	mode  string
	mu    sync.Mutex
	step  string
	told  bool
	last  string
	timer *time.Timer
}

var _ operation.Progress = (*progress)(nil)

func (s *session) newProgress() *progress {
	mode := s.global.progress
	if mode == "" || mode == "auto" {
		mode = "plain"
		if f, ok := s.err.(*os.File); ok && term.IsTerminal(int(f.Fd())) && s.env("TERM") != "dumb" {
			mode = "terminal"
		}
	}
	if s.global.quiet {
		mode = "none"
	}
	return &progress{w: s.err, mode: mode}
}

// Begin starts a step.
func (p *progress) Begin(step string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.step, p.told, p.last = step, false, ""
	p.timer = time.AfterFunc(showAfter, p.tell)
}

// tell says that a step takes a while.
func (p *progress) tell() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.step == "" || p.told {
		return
	}
	p.told = true
	p.line("begin", p.step, 0, nil)
	if p.last != "" {
		p.line("detail", p.last, 0, nil)
	}
}

// Detail says what a step is at.
func (p *progress) Detail(text string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if text == p.last {
		return
	}
	p.last = text
	if p.told {
		p.line("detail", text, 0, nil)
	}
}

// End ends a step.
func (p *progress) End(step string, took time.Duration, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.timer != nil {
		p.timer.Stop()
	}
	p.step = ""
	if p.told {
		p.line("end", step, took, err)
	}
}

// progressLine is one line of --progress json.
type progressLine struct {
	Event   string  `json:"event"`
	Text    string  `json:"text"`
	Seconds float64 `json:"seconds"`
	Failed  bool    `json:"failed"`
}

func (p *progress) line(event, text string, took time.Duration, err error) {
	switch p.mode {
	case "none":
	case "json":
		data, jsonErr := json.Marshal(progressLine{event, text, math.Round(took.Seconds()*10) / 10, err != nil})
		if jsonErr == nil {
			fmt.Fprintln(p.w, string(data))
		}
	case "terminal":
		p.terminal(event, printable(text), took, err)
	default:
		text = printable(text)
		switch {
		case event == "begin":
			fmt.Fprintf(p.w, "%s ...\n", text)
		case event == "detail":
			fmt.Fprintf(p.w, "  %.160s\n", text)
		case err != nil:
			fmt.Fprintf(p.w, "%s: failed after %.1f s\n", text, took.Seconds())
		default:
			fmt.Fprintf(p.w, "%s: done, %.1f s\n", text, took.Seconds())
		}
	}
}

// terminal keeps one line for each step: what it is at while it runs, the time
// that it took when it has ended.
func (p *progress) terminal(event, text string, took time.Duration, err error) {
	line, end := text+" ...", ""
	switch {
	case event == "detail":
		line = p.step + ": " + strings.ReplaceAll(text, "\n", " ")
	case event == "end" && err != nil:
		line, end = fmt.Sprintf("%s: failed after %.1f s", text, took.Seconds()), "\n"
	case event == "end":
		line, end = fmt.Sprintf("%s: %.1f s", text, took.Seconds()), "\n"
	}
	if r := []rune(line); len(r) > lineWidth {
		line = string(r[:lineWidth])
	}
	// Back to the first column, and what was longer is taken away.
	fmt.Fprintf(p.w, "\r%s\x1b[K%s", line, end)
}
