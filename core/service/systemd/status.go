package systemd

import (
	"context"
	"fmt"
	"syscall"
	"time"

	"github.com/coreos/go-systemd/v22/dbus"

	"mk8s.io/mk/core/service"
)

// unitStatus reads the properties of a unit. What systemd does not answer is
// left empty; the state is then failed, with the reason as last error.
func (c *Controller) unitStatus(ctx context.Context, conn *dbus.Conn, name string) service.Status {
	st := service.Status{Name: name, Log: c.log(name)}
	p, err := conn.GetAllPropertiesContext(ctx, c.Unit(name))
	if err != nil {
		st.State, st.LastError = service.Failed, fmt.Sprintf("systemd does not tell: %v", err)
		return st
	}
	active, _ := p["ActiveState"].(string)
	sub, _ := p["SubState"].(string)
	st.State = state(active, sub)
	if pid, ok := p["MainPID"].(uint32); ok {
		st.PID = int(pid)
	}
	if n, ok := p["NRestarts"].(uint32); ok {
		st.Restarts = int(n)
	}
	if us, ok := p["StateChangeTimestamp"].(uint64); ok && us > 0 {
		st.Since = time.UnixMicro(int64(us))
	}
	code, _ := p["ExecMainCode"].(int32)
	status, _ := p["ExecMainStatus"].(int32)
	st.LastExit = lastExit(code, status)
	st.Enabled = p["UnitFileState"] == "enabled"
	return st
}

// state translates systemd's words.
func state(active, sub string) service.State {
	switch {
	case active == "activating" && sub == "auto-restart",
		active == "activating" && sub == "auto-restart-queued":
		return service.Backoff
	case active == "activating":
		return service.Starting
	case active == "active" || active == "reloading" || active == "refreshing":
		return service.Running
	case active == "deactivating":
		return service.Stopping
	case active == "failed":
		return service.Failed
	}
	return service.Stopped
}

// The codes of waitid(2), as systemd tells them.
const (
	cldExited = 1
	cldKilled = 2
	cldDumped = 3
)

func lastExit(code, status int32) string {
	switch code {
	case cldExited:
		return fmt.Sprintf("exit status %d", status)
	case cldKilled:
		return "signal: " + syscall.Signal(status).String()
	case cldDumped:
		return "signal: " + syscall.Signal(status).String() + " (core dumped)"
	}
	return ""
}
