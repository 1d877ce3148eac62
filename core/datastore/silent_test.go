package datastore

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"

	"mk8s.io/mk/sdk/plugin"
)

func TestSilent(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		err  error
		want bool
	}{
		{rpctypes.ErrNoLeader, true},
		{rpctypes.ErrTimeout, true},
		{&QuorumError{Status: &Status{}}, true},
		{context.DeadlineExceeded, true},
		{rpctypes.ErrMemberNotFound, false},
		{plugin.Errorf(plugin.NotPossible, "no"), false},
		{errors.New("another"), false},
		{nil, false},
	} {
		err := c.err
		if err != nil {
			err = fmt.Errorf("ask: %w", err)
		}
		if Silent(err) != c.want {
			t.Errorf("%v: %t", c.err, !c.want)
		}
	}
}
