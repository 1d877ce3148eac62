package main

import (
	"testing"
	"time"

	"mk8s.io/mk/core/operation"
	"mk8s.io/mk/core/pki"
)

func TestCertLimits(t *testing.T) {
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	in := func(days, renew int, reasons ...pki.Code) operation.Certificate {
		c := operation.Certificate{NotAfter: now.AddDate(0, 0, days), RenewAt: now.AddDate(0, 0, renew)}
		for _, r := range reasons {
			c.Reasons = append(c.Reasons, pki.Reason{Code: r, Text: string(r)})
		}
		return c
	}
	day := 24 * time.Hour
	for name, c := range map[string]struct {
		l    limits
		cert operation.Certificate
		want string
	}{
		"long":                               {limits{warn: 30 * day}, in(300, 200), "ok"},
		"short by nature":                    {limits{warn: 30 * day}, in(1, 1), "ok"},
		"short by nature, and a limit named": {limits{warn: 30 * day, named: true}, in(1, 1), "warning"},
		"should have been renewed":           {limits{warn: 30 * day}, in(20, -1), "warning"},
		"due, ends much later":               {limits{warn: 30 * day}, in(90, -1, pki.Expiring), "warning"},
		"within crit":                        {limits{warn: 30 * day, crit: 7 * day, named: true}, in(6, -1), "critical"},
		"expired":                            {limits{warn: 30 * day}, in(-1, -9, pki.HasExpired), "critical"},
		"another key":                        {limits{warn: 30 * day}, in(300, 200, pki.KeyMismatch), "critical"},
		"not there":                          {limits{warn: 30 * day}, operation.Certificate{Reasons: []pki.Reason{{Code: pki.Unreadable}}}, "critical"},
	} {
		if got := c.l.check(c.cert, now); got.Severity != c.want {
			t.Errorf("%s: %s (%s), want %s", name, got.Severity, got.Why, c.want)
		}
	}
}
