package pluginhost

import (
	"context"
	"fmt"
	"maps"
	"net"
	"slices"

	"golang.org/x/sys/unix"
	"google.golang.org/grpc/credentials"
)

// peerCredentials let only one user be at the other end of a unix socket.
// They replace TLS: the socket lies in a folder that only that user and root
// can enter. The peer's pid is of no use, it reads 0 inside a PID namespace.
type peerCredentials struct{ uid uint32 }

var _ credentials.TransportCredentials = peerCredentials{}

type peerAuth struct{ credentials.CommonAuthInfo }

// AuthType names the check.
func (peerAuth) AuthType() string { return "unix-peer" }

// ClientHandshake checks the plugin's user.
func (c peerCredentials) ClientHandshake(_ context.Context, _ string, conn net.Conn) (net.Conn, credentials.AuthInfo, error) {
	return c.check(conn)
}

// ServerHandshake checks the plugin's user on the host's own socket.
func (c peerCredentials) ServerHandshake(conn net.Conn) (net.Conn, credentials.AuthInfo, error) {
	return c.check(conn)
}

// Info describes the protocol.
func (peerCredentials) Info() credentials.ProtocolInfo {
	return credentials.ProtocolInfo{SecurityProtocol: "unix-peer"}
}

// Clone copies the credentials.
func (c peerCredentials) Clone() credentials.TransportCredentials { return c }

// OverrideServerName does nothing: there are no names.
func (peerCredentials) OverrideServerName(string) error { return nil }

func (c peerCredentials) check(conn net.Conn) (net.Conn, credentials.AuthInfo, error) {
	got, err := peerUID(conn)
	if err != nil {
		return nil, nil, err
	}
	if got != c.uid {
		return nil, nil, fmt.Errorf("user %d is at the other end of the socket, not user %d", got, c.uid)
	}
	return conn, peerAuth{credentials.CommonAuthInfo{SecurityLevel: credentials.PrivacyAndIntegrity}}, nil
}

func peerUID(conn net.Conn) (uint32, error) {
	u, ok := conn.(*net.UnixConn)
	if !ok {
		return 0, fmt.Errorf("%T is not a unix socket", conn)
	}
	raw, err := u.SyscallConn()
	if err != nil {
		return 0, fmt.Errorf("look who is at the other end: %w", err)
	}
	var cred *unix.Ucred
	var credErr error
	err = raw.Control(func(fd uintptr) {
		cred, credErr = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
	})
	if err == nil {
		err = credErr
	}
	if err != nil {
		return 0, fmt.Errorf("look who is at the other end: %w", err)
	}
	return cred.Uid, nil
}

func sortedKeys(m map[string]any) []string { return slices.Sorted(maps.Keys(m)) }
