package pluginsdir

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"

	"mk8s.io/mk/pluginsdir/manifest"
	"mk8s.io/mk/pluginsdir/schema"
	"mk8s.io/mk/pluginsdir/strict"
)

const maxSettings = 1 << 20

// SettingsName is the name of a plugin's settings below the plugins folder. It
// is written with mode 0600.
func SettingsName(kind, name string) string { return "settings/" + fileName(kind, name) + ".json" }

// LoadSettings reads a plugin's settings and checks them against its schema;
// without a file they are {}. Only root may read them. The error is of type
// strict.Faults where the settings are wrong.
func (d *Dir) LoadSettings(m *manifest.Manifest) ([]byte, error) {
	id := m.Identity.Identity
	file := SettingsName(id.Kind, id.Name)
	data, err := d.read(file, maxSettings)
	if errors.Is(err, fs.ErrNotExist) {
		data, err = []byte("{}"), nil
	}
	if err != nil {
		return nil, err
	}
	if err := CheckSettings(m, data, filepath.Join(d.path, file)); err != nil {
		return nil, fmt.Errorf("reading the settings of %s: %w", id, err)
	}
	return data, nil
}

// SaveSettings checks and writes settings. It needs no operation lock of its
// own if the caller's ChangeSet is what writes; then CheckSettings is enough.
func (d *Dir) SaveSettings(m *manifest.Manifest, data []byte) error {
	id := m.Identity.Identity
	if err := CheckSettings(m, data, "settings of "+id.String()); err != nil {
		return err
	}
	if err := d.files.WriteFile(SettingsName(id.Kind, id.Name), data, settingsMode); err != nil {
		return fmt.Errorf("writing the settings of %s: %w", id, err)
	}
	return nil
}

// CheckSettings says whether data, a JSON object, fits the manifest's schema.
// file is the name for messages, which never hold the value of a secret. The
// error is of type strict.Faults.
func CheckSettings(m *manifest.Manifest, data []byte, file string) error {
	doc, err := strict.ReadAnyText(data, file, maxSettings)
	if err != nil {
		return err
	}
	value, err := schema.Decode(data)
	if err != nil {
		doc.Fault("", "is not JSON")
		return doc.Err()
	}
	object, ok := value.(map[string]any)
	if !ok {
		doc.Fault("", "must be a JSON object")
		return doc.Err()
	}
	if len(m.Settings) == 0 {
		if len(object) > 0 {
			doc.Fault("", "%s has no settings", m.Identity.Identity)
		}
		return doc.Err()
	}
	compiled, err := schema.Compile(m.Settings)
	if err != nil {
		return fmt.Errorf("the settings schema of %s: %w", m.Identity.Identity, err)
	}
	hidden := newSecrets(m.Settings)
	for _, f := range compiled.Check(value) {
		tellFault(doc, f, hidden, object)
	}
	return doc.Err()
}

func tellFault(doc *strict.Document, f schema.Fault, s *secrets, object map[string]any) {
	path := dotted(f.Location, object)
	if s.holds(object, f.Location) {
		doc.Fault(path, "does not fit %q of the schema (a secret, not shown)", f.Keyword)
		return
	}
	doc.Fault(path, "%s", f.Text)
}

// dotted writes a location as strict does: a.b[2].
func dotted(location []string, value any) string {
	var b strings.Builder
	for _, l := range location {
		switch v := value.(type) {
		case []any:
			fmt.Fprintf(&b, "[%s]", l)
			value = nil
			for i := range v {
				if fmt.Sprint(i) == l {
					value = v[i]
				}
			}
		case map[string]any:
			if b.Len() > 0 {
				b.WriteByte('.')
			}
			b.WriteString(l)
			value = v[l]
		}
	}
	return b.String()
}

// Redact answers settings in which every secret is replaced by its size. What
// the schema does not know is a secret too: nobody said that it may be shown.
func Redact(m *manifest.Manifest, data []byte) ([]byte, error) {
	value, err := schema.Decode(data)
	if err != nil {
		return nil, errors.New("redacting settings: not JSON")
	}
	out, err := json.Marshal(newSecrets(m.Settings).redact(value))
	if err != nil {
		return nil, fmt.Errorf("redacting settings: %w", err)
	}
	return out, nil
}
