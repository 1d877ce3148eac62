package main

import (
	"bytes"
	"encoding/json"
	"time"

	"mk8s.io/mk/sdk/plugin"
)

// schema describes the settings to people and to mk.
const schema = `{
  "$schema": "https://json-schema.org/draft/2020-12/schema",
  "type": "object",
  "additionalProperties": false,
  "properties": {
    "lifetime": {
      "type": "string",
      "description": "the longest life of a certificate that is not an authority's, for example 720h; max is one year, and of the datastore's ten. Programs look for their new certificate every 5 minutes, and it is made when a third of the life is left: below 20m some may be late",
      "default": "max"
    }
  }
}`

// Bounds of the setting lifetime.
const (
	noLimit      = "max"
	shortestLife = 10 * time.Minute
)

// parseSettings is the longest life of a leaf.
func parseSettings(data []byte) (time.Duration, error) {
	var in struct {
		Lifetime *string `json:"lifetime"`
	}
	if len(bytes.TrimSpace(data)) > 0 {
		dec := json.NewDecoder(bytes.NewReader(data))
		dec.DisallowUnknownFields()
		if err := dec.Decode(&in); err != nil {
			return 0, plugin.Errorf(plugin.BadSettings, "the settings cannot be read: %v", err)
		}
	}
	if in.Lifetime == nil || *in.Lifetime == noLimit {
		return caLife, nil
	}
	life, err := time.ParseDuration(*in.Lifetime)
	if err != nil || life < shortestLife || life > caLife {
		return 0, plugin.Errorf(plugin.BadSettings, "lifetime %.40q is not %s, and not a time from %s to %s", *in.Lifetime, noLimit, shortestLife, caLife)
	}
	return life, nil
}
