// Package service controls the long-running programs of a node: containerd,
// the datastore, kubelite and the others.
//
// One interface, Controller, has two implementations: package systemd drives
// units of a host that systemd runs, package supervisor keeps the programs up
// itself everywhere else. Both pass the same suite (package servicetest).
//
// Guaranteed by both: a service that ends is started again, with growing
// pauses; services start in the order of Definition.After and stop in the
// reverse; stopping is bounded, whatever state the program is in; a failure
// names the service and the last error line it wrote. Not guaranteed: that a
// service which is Ready can do its job. Who needs more than an open socket
// asks the service itself.
package service

import (
	"context"
	"errors"
	"syscall"
	"time"
)

// ErrUnknown is returned when a name has no definition.
var ErrUnknown = errors.New("no such service")

// ErrNotRunning is returned by a controller whose back end is not there, for
// instance the embedded supervisor that was not started.
var ErrNotRunning = errors.New("the service manager does not run")

// Controller controls the services of one node. All methods may be called
// concurrently and end with their context.
type Controller interface {
	// Apply installs or refreshes definitions. It starts nothing and stops
	// nothing: a running service takes its new definition at its next start.
	// Definitions not named stay. On error nothing or a part of them is
	// installed; applying again is always right.
	Apply(ctx context.Context, defs []Definition) error

	// Start starts services in the order of After and waits until each is
	// ready. Without names it means all. A service that runs is left alone.
	// On error the service that failed stays wanted and is tried again in the
	// background; later ones were not started, but for patient ones.
	Start(ctx context.Context, names ...string) error

	// Stop stops services in the reverse order and waits for their ends.
	// Without names it means all. It goes on past a service that fails to
	// stop and returns all failures.
	Stop(ctx context.Context, names ...string) error

	// Restart is Stop and Start of the named services, or of all.
	Restart(ctx context.Context, names ...string) error

	// Status tells about every defined service, sorted by name. It waits for
	// no service and answers within ctx.
	Status(ctx context.Context) ([]Status, error)
}

// Enabler is the ability to have services started when the machine boots.
type Enabler interface {
	Enable(ctx context.Context, names ...string) error
	Disable(ctx context.Context, names ...string) error
}

// Remover is the ability to forget definitions. Services to be removed must
// be stopped; a running one is an error and stays. Unknown names are fine.
type Remover interface {
	Remove(ctx context.Context, names ...string) error
}

// State is what a service does at the moment.
type State string

// The states. A service in Backoff ended unexpectedly and waits for its next
// start; Failed is one that is not tried again by itself.
const (
	Stopped  State = "stopped"
	Starting State = "starting"
	Running  State = "running"
	Stopping State = "stopping"
	Backoff  State = "backoff"
	Failed   State = "failed"
)

// Status tells about one service.
type Status struct {
	Name  string    `json:"name"`
	State State     `json:"state"`
	PID   int       `json:"pid,omitempty"`
	Since time.Time `json:"since,omitzero"` // when it came into State
	// Restarts counts unexpected ends since the last Start by a person.
	Restarts int `json:"restarts"`
	// LastExit tells how the last process ended ("exit status 1", "signal:
	// killed"), or is empty. "exit status unknown" is said of a process that
	// was adopted from an earlier supervisor.
	LastExit string `json:"lastExit,omitempty"`
	// LastError is the last line of its log that looks like an error.
	LastError string `json:"lastError,omitempty"`
	Log       string `json:"log,omitempty"` // path of its log file
	Enabled   bool   `json:"enabled"`       // comes back with the machine, or the supervisor
}

// KillMode says what stopping a service ends.
type KillMode string

const (
	// KillGroup, the default, ends the program and all it started.
	KillGroup KillMode = "group"
	// KillProcess ends the program only: containerd's shims, and so the pods,
	// outlive it.
	KillProcess KillMode = "process"
)

// Ready says how to know that a service can be depended on. With neither
// field set, a process that lives for Settle is ready.
type Ready struct {
	Unix string `json:"unix,omitempty"` // path of a socket that accepts
	TCP  string `json:"tcp,omitempty"`  // host:port that accepts
}

// Settle is how long a process without a Ready address must live before it
// counts as started, so that a refused flag is an error of Start.
const Settle = 300 * time.Millisecond

// MaxStartFailures is how often a service may end before it was ready until
// Start gives up waiting for it.
const MaxStartFailures = 3

// DefaultStopTimeout applies where a definition names none.
const DefaultStopTimeout = 30 * time.Second

// Definition describes one service. It is data computed from the node's
// folder: equal definitions are the same service.
type Definition struct {
	// Name is the service's name, [a-z0-9-], at most 40 characters.
	Name        string `json:"name"`
	Description string `json:"description,omitempty"`
	// Path is the absolute path of the program.
	Path string `json:"path"`
	// Argv is the whole argument vector with the program's name first; empty
	// means only Path.
	Argv []string `json:"argv,omitempty"`
	// Env is the whole environment, NAME=value each. Nothing is inherited by
	// the supervisor's children; systemd adds its usual few.
	Env []string `json:"env,omitempty"`
	// SecretEnv is more of the environment: what no user of the machine but
	// root may find out. It stands in no file that others read.
	SecretEnv []string `json:"secretEnv,omitempty"`
	// Dir is the working directory, "/" where empty.
	Dir string `json:"dir,omitempty"`
	// After names services that start before this one and stop after it. It
	// is an order, not a demand: names without definition are ignored.
	After []string `json:"after,omitempty"`
	// Patient says that the service itself waits until those are ready: it
	// starts when they do.
	Patient bool  `json:"patient,omitempty"`
	Ready   Ready `json:"ready,omitzero"`

	StopTimeout time.Duration  `json:"stopTimeout,omitempty"` // until SIGKILL; default DefaultStopTimeout
	StopSignal  syscall.Signal `json:"stopSignal,omitempty"`  // default SIGTERM
	KillMode    KillMode       `json:"killMode,omitempty"`    // default KillGroup

	// Delegate gives the service its own cgroup subtree where systemd runs.
	Delegate bool `json:"delegate,omitempty"`
	// OOMScoreAdjust is -1000 to 1000, 0 leaves it alone. The supervisor sets
	// it as far as the machine lets it.
	OOMScoreAdjust int `json:"oomScoreAdjust,omitempty"`
	// LimitNOFILE is the number of files that may be open, 0 leaves it alone.
	// The supervisor gives no more than its own hard limit.
	LimitNOFILE uint64 `json:"limitNOFILE,omitempty"`
}
