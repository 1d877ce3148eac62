package sdk

import (
	"context"
	"os"

	"github.com/hashicorp/go-hclog"
)

// LogLevelVariable names the environment variable that holds the level:
// trace, debug, info, warn or error.
const LogLevelVariable = "MK_LOG_LEVEL"

// Logger makes a logger that writes JSON lines to standard error, where the
// host reads them. The level comes from MK_LOG_LEVEL, info without it. Never
// log a secret: the host keeps lines.
func Logger() hclog.Logger {
	level := hclog.LevelFromString(os.Getenv(LogLevelVariable))
	if level == hclog.NoLevel {
		level = hclog.Info
	}
	return hclog.New(&hclog.LoggerOptions{Level: level, Output: os.Stderr, JSONFormat: true})
}

// LoggerFrom is the logger of the question that a context belongs to; its
// lines name the question and the operation.
func LoggerFrom(ctx context.Context) hclog.Logger { return hclog.FromContext(ctx) }
