package kube

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"strings"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
)

// DrainOptions say which pods may go and how long they get. The zero value, with a Program, is the careful one: pods with
// local data or without a controller stop the drain before anything is evicted. Pods of DaemonSets and static pods always
// stay.
type DrainOptions struct {
	// Program is kubelite: kubectl's library is in it, not in mk.
	Program string
	// DeleteEmptyDirData lets pods with emptyDir volumes go; their data is lost.
	DeleteEmptyDirData bool
	// Force lets pods without a controller go; nothing makes them again.
	Force bool
	// GracePeriod replaces the pods' own; 0 keeps theirs.
	GracePeriod time.Duration
	// Timeout ends the drain; 0 leaves it to the context.
	Timeout time.Duration
	// AbandonAfter stops waiting for pods whose deletion began longer ago than this, as on a node that is down; 0 waits.
	AbandonAfter time.Duration
}

// BlockedPod is a pod that kept a node from being drained.
type BlockedPod struct {
	Namespace string `json:"namespace"`
	Name      string `json:"name"`
	// Budgets are the PodDisruptionBudgets that refused the eviction.
	Budgets []string `json:"budgets,omitempty"`
	Reason  string   `json:"reason"`
}

// DrainError says which pods are left on a node and why. It wraps the end of the context or what the server answered.
type DrainError struct {
	Node    string
	Blocked []BlockedPod
	// Uncordoned is whether the node takes pods again, because it did before the drain.
	Uncordoned bool
	Err        error
}

// Error implements error.
func (e *DrainError) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "drain node %s: %v", e.Node, e.Err)
	for _, p := range e.Blocked {
		fmt.Fprintf(&b, "; pod %s/%s: %s", p.Namespace, p.Name, p.Reason)
		if len(p.Budgets) > 0 {
			fmt.Fprintf(&b, " (PodDisruptionBudget %s)", strings.Join(p.Budgets, ", "))
		}
	}
	if e.Uncordoned {
		b.WriteString("; the node takes pods again")
	}
	return b.String()
}

// Unwrap gives what ended the drain.
func (e *DrainError) Unwrap() error { return e.Err }

// undoTimeout bounds what is put right after a context has ended.
const undoTimeout = 10 * time.Second

// Drain cordons a node and evicts its pods through the Eviction API, so that PodDisruptionBudgets hold, and waits until
// they are gone. On an error the node is uncordoned again where it was not cordoned before; pods evicted so far stay so.
// The error is a *DrainError once the node is cordoned. progress, which may be nil, is called from one goroutine.
func (c *Client) Drain(ctx context.Context, name string, opts DrainOptions, progress func(string)) error {
	if opts.Timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, opts.Timeout)
		defer cancel()
	}
	node, err := c.Node(ctx, name)
	if err != nil {
		return fmt.Errorf("drain: %w", err)
	}
	if err := c.Cordon(ctx, name); err != nil {
		return fmt.Errorf("drain: %w", err)
	}
	failed := &DrainError{Node: name}
	failed.Blocked, failed.Err = c.evict(ctx, name, opts, progress)
	if failed.Err == nil {
		return nil
	}
	if !node.Unschedulable {
		// The context may have ended, and the node must not stay cordoned for that.
		undo, cancel := context.WithTimeout(context.WithoutCancel(ctx), undoTimeout)
		defer cancel()
		if uncordon := c.Uncordon(undo, name); uncordon != nil {
			failed.Err = fmt.Errorf("%w (and the node stays cordoned: %w)", failed.Err, uncordon)
		} else {
			failed.Uncordoned = true
		}
	}
	return failed
}

// eviction is what cmd/kubelite/drain reads, with this client's own access.
type eviction struct {
	Server             string               `json:"server"`
	TLS                rest.TLSClientConfig `json:"tls"`
	BearerToken        string               `json:"bearerToken,omitempty"`
	BearerTokenFile    string               `json:"bearerTokenFile,omitempty"`
	UserAgent          string               `json:"userAgent"`
	Node               string               `json:"node"`
	DeleteEmptyDirData bool                 `json:"deleteEmptyDirData,omitempty"`
	Force              bool                 `json:"force,omitempty"`
	GracePeriod        time.Duration        `json:"gracePeriod,omitempty"`
	AbandonAfter       time.Duration        `json:"abandonAfter,omitempty"`
}

// evictionAnswer is one line of what it writes.
type evictionAnswer struct {
	Progress string         `json:"progress"`
	End      bool           `json:"end"`
	Error    string         `json:"error"`
	Status   *metav1.Status `json:"status"`
	Blocked  []BlockedPod   `json:"blocked"`
}

// err is what ended the eviction.
func (a evictionAnswer) err() error {
	switch {
	case a.Status != nil:
		return &apierrors.StatusError{ErrStatus: *a.Status}
	case a.Error != "":
		return errors.New(a.Error)
	}
	return nil
}

// evict has kubelite evict the pods. When the context ends it is told so, and killed if it does not end by itself.
func (c *Client) evict(ctx context.Context, name string, opts DrainOptions, progress func(string)) ([]BlockedPod, error) {
	r := c.config
	request, err := json.Marshal(eviction{
		Server: r.Host, TLS: r.TLSClientConfig, BearerToken: r.BearerToken, BearerTokenFile: r.BearerTokenFile, UserAgent: r.UserAgent,
		Node: name, DeleteEmptyDirData: opts.DeleteEmptyDirData, Force: opts.Force, GracePeriod: opts.GracePeriod, AbandonAfter: opts.AbandonAfter,
	})
	if err != nil {
		return nil, fmt.Errorf("ask for the eviction: %w", err)
	}
	cmd := exec.CommandContext(ctx, opts.Program, "drain")
	var said bytes.Buffer
	cmd.Stderr, cmd.WaitDelay = &said, undoTimeout
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, fmt.Errorf("ask for the eviction: %w", err)
	}
	// Its input stays open for as long as it is to go on: it ends with mk, even with one that is killed.
	cmd.Cancel = in.Close
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, fmt.Errorf("ask for the eviction: %w", err)
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("evict its pods: %w", err)
	}
	_, writeErr := in.Write(request)
	last, readErr := answers(out, progress)
	waitErr := cmd.Wait()
	switch {
	case last.End && last.err() == nil:
		return nil, nil
	case ctx.Err() != nil:
		return last.Blocked, ended(ctx, "evict its pods", nil)
	case last.End:
		return last.Blocked, last.err()
	}
	text := strings.TrimSpace(said.String())
	return nil, fmt.Errorf("evict its pods: %s did not say how it ended: %w", opts.Program, errors.Join(writeErr, readErr, waitErr, errors.New(text[max(0, len(text)-1000):])))
}

// answers reads until the end, and gives the last one.
func answers(from io.Reader, progress func(string)) (evictionAnswer, error) {
	dec := json.NewDecoder(from)
	for {
		var a evictionAnswer
		if err := dec.Decode(&a); err != nil {
			return evictionAnswer{}, err
		}
		if a.End {
			return a, nil
		}
		if progress != nil {
			progress(a.Progress)
		}
	}
}
