package service

import (
	"context"
	"fmt"
	"net"
	"time"
)

// dialTimeout bounds one try: a socket whose owner is stopped accepts nothing
// once its queue is full.
const dialTimeout = time.Second

// Set reports whether there is an address to try.
func (r Ready) Set() bool { return r.Unix != "" || r.TCP != "" }

// Try reports nil when the service's address accepts a connection. Without an
// address it is always nil: the caller waits for Settle.
func (r Ready) Try(ctx context.Context) error {
	network, address := "unix", r.Unix
	switch {
	case !r.Set():
		return nil
	case r.Unix == "":
		network, address = "tcp", r.TCP
	}
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	c, err := (&net.Dialer{}).DialContext(ctx, network, address)
	if err != nil {
		return fmt.Errorf("%s does not accept connections yet: %w", address, err)
	}
	return c.Close()
}
