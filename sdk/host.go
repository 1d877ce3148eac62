package sdk

import (
	"errors"
	"os"

	"mk8s.io/mk/sdk/host"
	"mk8s.io/mk/sdk/hostrpc"
)

// ErrNoHost says that this process was started without a host's socket.
var ErrNoHost = errors.New("no host: " + host.SocketVariable + " is not set")

// Host answers what a plugin may ask the host while it answers a question. It
// connects with the first call. Call it once and keep the value: every one
// has a connection of its own, which ends with the process.
func Host() (host.Host, error) {
	socket := os.Getenv(host.SocketVariable)
	if socket == "" {
		return nil, ErrNoHost
	}
	return hostrpc.Dial(socket)
}
