// Package peercred checks who is at the other end of a unix socket. The kernel
// tells the user id (SO_PEERCRED); inside a PID namespace the pid reads 0, the
// user id is right. Nothing is encrypted: the socket's folder must be private.
package peercred

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"

	"golang.org/x/sys/unix"
	"google.golang.org/grpc/credentials"
)

// Info is what a gRPC handler finds in peer.FromContext.
type Info struct {
	credentials.CommonAuthInfo
	UID uint32
	PID int32
}

// AuthType names the kind of check.
func (Info) AuthType() string { return "unix-peer" }

// RootOrSelf allows root and the user that this process runs as.
func RootOrSelf(uid uint32) bool { return uid == 0 || uid == uint32(os.Geteuid()) }

// Only allows root and one user.
func Only(user uint32) func(uid uint32) bool {
	return func(uid uint32) bool { return uid == 0 || uid == user }
}

// New makes credentials for both sides of a unix socket. A peer whose user id
// is not allowed is cut off before the first message.
func New(allow func(uid uint32) bool) credentials.TransportCredentials { return creds{allow: allow} }

type creds struct{ allow func(uint32) bool }

func (c creds) ClientHandshake(_ context.Context, _ string, conn net.Conn) (net.Conn, credentials.AuthInfo, error) {
	return c.check(conn)
}

func (c creds) ServerHandshake(conn net.Conn) (net.Conn, credentials.AuthInfo, error) {
	return c.check(conn)
}

func (creds) Info() credentials.ProtocolInfo {
	return credentials.ProtocolInfo{SecurityProtocol: "unix-peer"}
}

func (c creds) Clone() credentials.TransportCredentials { return c }
func (creds) OverrideServerName(string) error           { return nil }

func (c creds) check(conn net.Conn) (net.Conn, credentials.AuthInfo, error) {
	cred, err := read(conn)
	if err != nil {
		return nil, nil, fmt.Errorf("asking who is at the other end of the socket: %w", err)
	}
	if !c.allow(cred.Uid) {
		return nil, nil, fmt.Errorf("the other end of the socket is user %d, which is not allowed", cred.Uid)
	}
	info := Info{UID: cred.Uid, PID: cred.Pid}
	info.SecurityLevel = credentials.PrivacyAndIntegrity
	return conn, info, nil
}

func read(conn net.Conn) (*unix.Ucred, error) {
	u, ok := conn.(*net.UnixConn)
	if !ok {
		return nil, errors.New("not a unix socket")
	}
	raw, err := u.SyscallConn()
	if err != nil {
		return nil, err
	}
	var cred *unix.Ucred
	var credErr error
	if err := raw.Control(func(fd uintptr) {
		cred, credErr = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
	}); err != nil {
		return nil, err
	}
	return cred, credErr
}
