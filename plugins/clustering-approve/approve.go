package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"

	"mk8s.io/mk/sdk/clustering"
	"mk8s.io/mk/sdk/clustering/etcd"
	"mk8s.io/mk/sdk/host"
	"mk8s.io/mk/sdk/plugin"
	"mk8s.io/mk/sdk/state"
)

// Approve asks a person about each join, and answers all else as etcd does.
// Several processes of it may run at once: the one that serves joins, and the
// one in which a person decides.
type Approve struct {
	*etcd.Etcd

	now func() time.Time

	mu       sync.Mutex
	dir      *state.Dir
	settings settings
}

var (
	_ clustering.Plugin   = (*Approve)(nil)
	_ clustering.Approver = (*Approve)(nil)
)

// New makes the plugin. It reads nothing before Configure.
func New(version string, now func() time.Time, connect func() (host.Host, error)) *Approve {
	return &Approve{Etcd: etcd.New(version, connect), now: now, settings: settings{wait: defaultWait}}
}

// schema describes the settings to people and to mk.
const schema = `{
  "$schema": "https://json-schema.org/draft/2020-12/schema",
  "type": "object",
  "additionalProperties": false,
  "properties": {
    "timeout": {
      "type": "string",
      "description": "how long a join waits for a person, for example 30m",
      "default": "30m"
    }
  }
}`

// settings are what a person may choose.
type settings struct{ wait time.Duration }

// Bounds of the setting timeout.
const (
	defaultWait  = 30 * time.Minute
	shortestWait = 10 * time.Second
	longestWait  = 7 * 24 * time.Hour
)

func parseSettings(data []byte) (settings, error) {
	s := settings{wait: defaultWait}
	if len(bytes.TrimSpace(data)) == 0 {
		return s, nil
	}
	var in struct {
		Timeout *string `json:"timeout"`
	}
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&in); err != nil {
		return s, plugin.Errorf(plugin.BadSettings, "the settings cannot be read: %v", err)
	}
	if in.Timeout == nil {
		return s, nil
	}
	wait, err := time.ParseDuration(*in.Timeout)
	if err != nil || wait < shortestWait || wait > longestWait {
		return s, plugin.Errorf(plugin.BadSettings, "timeout %.40q is not a time from %s to %s", *in.Timeout, shortestWait, longestWait)
	}
	s.wait = wait
	return s, nil
}

// Describe says what this plugin is. What it may do is what etcd's answers
// need.
func (p *Approve) Describe(ctx context.Context) (plugin.Description, error) {
	d, err := p.Etcd.Describe(ctx)
	d.Identity.Name = "approve"
	d.Capabilities = append(d.Capabilities, clustering.CapabilityApproval)
	d.Settings = []byte(schema)
	return d, err
}

// Configure opens the state folder.
func (p *Approve) Configure(ctx context.Context, c plugin.Configuration) error {
	s, err := parseSettings(c.Settings)
	if err != nil {
		return err
	}
	dir, err := state.Open(c.StateDir)
	if err != nil {
		return fmt.Errorf("open the state folder: %w", err)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.dir, p.settings = dir, s
	return p.Etcd.Configure(ctx, c)
}

// errNotConfigured is an order of questions that the host never asks in.
var errNotConfigured = errors.New("asked before Configure")

func (p *Approve) configured() (*state.Dir, settings, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.dir == nil {
		return nil, settings{}, errNotConfigured
	}
	return p.dir, p.settings, nil
}

// Health reads who waits.
func (p *Approve) Health(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	dir, _, err := p.configured()
	if err != nil {
		return err
	}
	return dir.Read(waitingName, &waiting{})
}

// Forget drops who waits and what was decided.
func (p *Approve) Forget(ctx context.Context, _ plugin.Call) error {
	dir, _, err := p.configured()
	if err != nil {
		return err
	}
	return dir.Clear(ctx)
}
