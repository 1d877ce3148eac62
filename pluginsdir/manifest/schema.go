package manifest

import (
	"bytes"
	"errors"
	"fmt"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"mk8s.io/mk/pluginsdir/strict"
)

// schemaAddress is what a settings schema is called inside the compiler.
const schemaAddress = "mk:///settings.json"

// noLoader keeps schemas from naming files or web addresses.
type noLoader struct{}

func (noLoader) Load(address string) (any, error) {
	return nil, fmt.Errorf("%s: a settings schema may only refer to itself", address)
}

// CompileSettings compiles a settings schema. References to anything outside
// it are refused; nothing is fetched or read.
func CompileSettings(schema []byte) (*jsonschema.Schema, error) {
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(schema))
	if err != nil {
		return nil, fmt.Errorf("reading the settings schema: %w", err)
	}
	c := jsonschema.NewCompiler()
	c.DefaultDraft(jsonschema.Draft2020)
	c.UseLoader(noLoader{})
	if err := c.AddResource(schemaAddress, doc); err != nil {
		return nil, fmt.Errorf("reading the settings schema: %w", err)
	}
	s, err := c.Compile(schemaAddress)
	if err != nil {
		return nil, fmt.Errorf("compiling the settings schema: %w", err)
	}
	return s, nil
}

func checkSchema(d *strict.Document, m *Manifest) {
	_, err := CompileSettings(m.Settings)
	if err == nil {
		return
	}
	if e, ok := errors.AsType[*jsonschema.LoadURLError](err); ok {
		err = e.Err
	}
	d.Fault("settings", "%v", err)
}
