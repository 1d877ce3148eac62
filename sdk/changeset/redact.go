package changeset

import (
	"fmt"
	"slices"
)

// Hidden is what stands for a secret of a length.
func Hidden(bytes int) string { return fmt.Sprintf("‹secret, %d bytes›", bytes) }

// Redacted is a copy in which no secret is left: file contents, argument
// values and manifests that are marked. It shares what is not secret.
func (c ChangeSet) Redacted() ChangeSet {
	ops := slices.Clone(c.Operations)
	for i := range ops {
		ops[i] = ops[i].Redacted()
	}
	return ChangeSet{Operations: ops}
}

// Redacted is a copy in which no secret is left.
func (o Operation) Redacted() Operation {
	switch a := o.Action.(type) {
	case *WriteFile:
		if a != nil && a.Secret {
			hidden := *a
			hidden.Content = []byte(Hidden(len(a.Content)))
			o.Action = &hidden
		}
	case *SetArgument:
		if a != nil && a.Secret && a.Value != nil {
			hidden, value := *a, Hidden(len(*a.Value))
			hidden.Value = &value
			o.Action = &hidden
		}
	case *ApplyManifests:
		if a != nil && a.Secret {
			hidden := *a
			hidden.Manifests = []byte(Hidden(len(a.Manifests)))
			o.Action = &hidden
		}
	}
	return o
}
