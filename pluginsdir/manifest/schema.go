package manifest

import (
	"mk8s.io/mk/pluginsdir/schema"
	"mk8s.io/mk/pluginsdir/strict"
)

func checkSchema(d *strict.Document, m *Manifest) {
	if _, err := schema.Compile(m.Settings); err != nil {
		d.Fault("settings", "%v", err)
	}
}
