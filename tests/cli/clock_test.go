package cli

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestClockWait: a start waits for a clock that stands before the newest
// certificate on disk, and goes on when it is right; where it stays wrong the
// start ends with a message, and nothing is made.
func TestClockWait(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Log("only root starts a node: that is told to everybody else first")
		return
	}
	for name, c := range map[string]struct {
		ahead time.Duration // of the clock, where the newest certificate begins
		words []string
		code  int
		says  []string
	}{
		"it stays wrong": {time.Hour, []string{"--clock-wait", "1s"}, 1, []string{
			"waiting up to 1s for the clock", "mk: the clock is behind\n", "next  timedatectl set-ntp true", "state nothing was changed"}},
		"nobody waits": {time.Hour, []string{"--clock-wait", "0"}, 1, []string{"mk: the clock is behind\n", "state nothing was changed"}},
		// What comes after the wait is refused for a reason of its own.
		"it is put right":  {3 * time.Second, []string{"--clock-wait", "1m", "--cni", "none"}, 2, []string{"waiting up to 1m0s for the clock", "mk: --cni \"none\" is not one of"}},
		"it cannot be":     {0, []string{"--clock-wait", "soon"}, 2, []string{"--clock-wait \"soon\""}},
		"it was right all": {-time.Hour, []string{"--clock-wait", "1m", "--cni", "none"}, 2, []string{"mk: --cni \"none\" is not one of"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := filepath.Join(t.TempDir(), "root")
			begins := time.Now().Add(c.ahead).Truncate(time.Second)
			certificate(t, filepath.Join(dir, "certs", "server.crt"), begins)
			before := tree(t, dir)
			out, err := exec.CommandContext(t.Context(), "mk", append([]string{"--root", dir, "start"}, c.words...)...).CombinedOutput()
			code := 0
			if e, ok := errors.AsType[*exec.ExitError](err); ok {
				code = e.ExitCode()
			}
			if code != c.code {
				t.Errorf("exit %d, wants %d:\n%s", code, c.code, out)
			}
			for _, text := range c.says {
				if !strings.Contains(string(out), text) {
					t.Errorf("it does not say %q:\n%s", text, out)
				}
			}
			if strings.Contains(string(out), "waiting") != strings.Contains(strings.Join(c.says, ""), "waiting") {
				t.Errorf("what it waits for:\n%s", out)
			}
			if c.code == 2 && time.Now().Before(begins) {
				t.Error("it did not wait for the clock")
			}
			if after := tree(t, dir); after != before {
				t.Errorf("it changed something:\n%s\nbefore\n%s", after, before)
			}
		})
	}
}

// certificate writes a certificate that begins at a time.
func certificate(t *testing.T, file string, begins time.Time) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: begins, NotAfter: begins.AddDate(1, 0, 0)}
	der, err := x509.CreateCertificate(rand.Reader, c, c, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
}
