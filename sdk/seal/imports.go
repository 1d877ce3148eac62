package seal

import (
	"context"
	"slices"
	"time"

	"mk8s.io/mk/sdk/plugin"
	"mk8s.io/mk/sdk/state"
)

const (
	importName = "import.json"
	maxImports = 8 // operations that may be under way at once
)

// pending are the keys that others were told to seal to, the newest last.
type pending struct {
	Keys [][]byte `json:"keys"`
}

// PrepareImport is an Exporter's: it makes a key to seal to, keeps the private
// half in the plugin's state until OpenImport has used it, and answers the
// recipient. The same operation gets the same one.
func PrepareImport(ctx context.Context, dir *state.Dir, now time.Time, call plugin.Call) ([]byte, error) {
	return state.Once(ctx, dir, now, call.OperationID, "prepare import", func(l *state.Locked) ([]byte, error) {
		keys := pending{}
		if err := l.Read(importName, &keys); err != nil {
			return nil, err
		}
		private, recipient, err := NewKey()
		if err != nil {
			return nil, err
		}
		keys.Keys = append(keys.Keys, private)
		keys.Keys = keys.Keys[max(0, len(keys.Keys)-maxImports):]
		return recipient, l.Write(importName, keys)
	})
}

// OpenImport opens, in an Exporter's Import, what was sealed to a key that
// PrepareImport has made, and drops that key with what else is written through
// l. The error is of reason BAD_ARGUMENT where no key fits.
func OpenImport(l *state.Locked, sealed, binding []byte) ([]byte, error) {
	keys := pending{}
	if err := l.Read(importName, &keys); err != nil {
		return nil, err
	}
	for i, k := range keys.Keys {
		data, err := Open(k, binding, sealed)
		if err != nil {
			continue
		}
		keys.Keys = slices.Delete(keys.Keys, i, i+1)
		return data, l.Write(importName, keys)
	}
	return nil, plugin.Errorf(plugin.BadArgument, "import: %v", ErrCannotOpen)
}
