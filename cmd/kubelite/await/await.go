// Package await waits for programs that are started beside kubelite.
package await

import (
	"context"
	"net"
	"net/url"
	"time"

	"k8s.io/apimachinery/pkg/util/wait"
)

// patience is how long a component waits for the program that it needs: they are started together, and what is asked
// too early is asked again only after a pause, or never. Behind that the component's own error says what is missing.
const patience = 30 * time.Second

// Listener waits until somebody accepts connections at one of these addresses, https://HOST:PORT or unix://PATH. It does
// not wait for others.
func Listener(ctx context.Context, addresses ...string) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	_ = wait.PollUntilContextCancel(ctx, 5*time.Millisecond, true, func(ctx context.Context) (bool, error) {
		for _, text := range addresses {
			network, address := "tcp", ""
			switch u, err := url.Parse(text); {
			case err == nil && u.Scheme == "unix":
				network, address = "unix", u.Path
			case err == nil && u.Port() != "":
				address = u.Host
			default:
				return true, nil
			}
			if c, err := (&net.Dialer{Timeout: time.Second}).DialContext(ctx, network, address); err == nil {
				_ = c.Close() // nothing was said
				return true, nil
			}
		}
		return len(addresses) == 0, nil
	})
}

// Before has a component run when what it asks first listens. One that was told to end before that never runs: the kubelet
// would not hear of a signal that came before it listened for it.
func Before(address string, run func(context.Context) error) func(context.Context) error {
	return func(ctx context.Context) error {
		if Listener(ctx, address); ctx.Err() != nil {
			return nil
		}
		return run(ctx)
	}
}
