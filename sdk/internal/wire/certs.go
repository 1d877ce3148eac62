package wire

import (
	"errors"
	"fmt"

	"mk8s.io/mk/sdk/certs"
	"mk8s.io/mk/sdk/plugin"
	certsv1 "mk8s.io/mk/sdk/proto/mk/certs/v1"
)

// FromBootstrap encodes a request.
func FromBootstrap(r certs.BootstrapRequest) *certsv1.BootstrapRequest {
	return &certsv1.BootstrapRequest{Call: FromCall(r.Call), Authority: r.Authority, Generation: r.Generation,
		KeyType: r.KeyType, Now: fromTime(r.Now)}
}

// ToBootstrap decodes a request.
func ToBootstrap(m *certsv1.BootstrapRequest) (certs.BootstrapRequest, error) {
	now, err := toTime("now", m.GetNow())
	return certs.BootstrapRequest{Call: ToCall(m.GetCall()), Authority: m.GetAuthority(), Generation: m.GetGeneration(),
		KeyType: m.GetKeyType(), Now: now}, err
}

// FromAuthority encodes an authority.
func FromAuthority(a certs.Authority) *certsv1.Authority {
	return &certsv1.Authority{Name: a.Name, Generation: a.Generation, Chain: a.Chain, ServerBundle: a.ServerBundle,
		ClientBundle: a.ClientBundle, MaxLife: fromDuration(a.MaxLife), KeyTypes: a.KeyTypes,
		PermittedNames: a.PermittedNames, SharesKeyWith: a.SharesKeyWith, KeyLocation: a.KeyLocation}
}

// ToAuthority decodes an authority; none at all is an error.
func ToAuthority(m *certsv1.Authority) (certs.Authority, error) {
	if m == nil {
		return certs.Authority{}, errors.New("no authority in the answer")
	}
	life, err := toDuration("longest life", m.GetMaxLife())
	return certs.Authority{Name: m.GetName(), Generation: m.GetGeneration(), Chain: m.GetChain(),
		ServerBundle: m.GetServerBundle(), ClientBundle: m.GetClientBundle(), MaxLife: life, KeyTypes: m.GetKeyTypes(),
		PermittedNames: m.GetPermittedNames(), SharesKeyWith: m.GetSharesKeyWith(), KeyLocation: m.GetKeyLocation()}, err
}

// FromAuthorities encodes a list.
func FromAuthorities(a []certs.Authority) *certsv1.AuthoritiesResponse {
	return &certsv1.AuthoritiesResponse{Authorities: each(a, FromAuthority)}
}

// ToAuthorities decodes a list.
func ToAuthorities(m *certsv1.AuthoritiesResponse) ([]certs.Authority, error) {
	return eachFrom("authority", m.GetAuthorities(), ToAuthority)
}

// FromSign encodes a batch.
func FromSign(r certs.SignRequest) *certsv1.SignRequest {
	return &certsv1.SignRequest{Call: FromCall(r.Call), Now: fromTime(r.Now),
		Requests: each(r.Requests, func(c certs.CertificateRequest) *certsv1.CertificateRequest {
			return &certsv1.CertificateRequest{Id: c.ID, Csr: c.CSR, Authority: c.Authority, Generation: c.Generation,
				Profile: c.Profile, Life: fromDuration(c.Life), CommonName: c.CommonName, Organizations: c.Organizations,
				DnsNames: c.DNSNames, IpAddresses: c.IPAddresses, KeyUsages: c.KeyUsages, ExtendedKeyUsages: c.ExtendedKeyUsages}
		})}
}

// ToSign decodes a batch.
func ToSign(m *certsv1.SignRequest) (certs.SignRequest, error) {
	now, err := toTime("now", m.GetNow())
	if err != nil {
		return certs.SignRequest{}, err
	}
	rs, err := eachFrom("request", m.GetRequests(), func(c *certsv1.CertificateRequest) (certs.CertificateRequest, error) {
		life, err := toDuration("life", c.GetLife())
		return certs.CertificateRequest{ID: c.GetId(), CSR: c.GetCsr(), Authority: c.GetAuthority(), Generation: c.GetGeneration(),
			Profile: c.GetProfile(), Life: life, CommonName: c.GetCommonName(), Organizations: c.GetOrganizations(),
			DNSNames: c.GetDnsNames(), IPAddresses: c.GetIpAddresses(), KeyUsages: c.GetKeyUsages(),
			ExtendedKeyUsages: c.GetExtendedKeyUsages()}, err
	})
	return certs.SignRequest{Call: ToCall(m.GetCall()), Requests: rs, Now: now}, err
}

// FromSigned encodes the results of a batch.
func FromSigned(results []certs.SignResult) (*certsv1.SignResponse, error) {
	rs, err := eachFrom("result", results, fromSignResult)
	return &certsv1.SignResponse{Results: rs}, err
}

func fromSignResult(r certs.SignResult) (*certsv1.SignResult, error) {
	m := &certsv1.SignResult{Id: r.ID}
	set := 0
	if g := r.Granted; g != nil {
		set++
		m.Outcome = &certsv1.SignResult_Granted{Granted: &certsv1.Granted{Certificate: g.Certificate, Changes: g.Changes}}
	}
	if p := r.Pending; p != nil {
		set++
		m.Outcome = &certsv1.SignResult_Pending{Pending: &certsv1.Pending{RetryAfter: fromDuration(p.RetryAfter), WaitingFor: p.WaitingFor}}
	}
	if f := r.Refused; f != nil {
		set++
		m.Outcome = &certsv1.SignResult_Refused{Refused: &certsv1.Refused{Reason: string(f.Reason), Message: f.Message}}
	}
	if set != 1 {
		return nil, fmt.Errorf("%d outcomes are set, one must be", set)
	}
	return m, nil
}

// ToSigned decodes the results of a batch and holds them against it: as many,
// in the same order.
func ToSigned(m *certsv1.SignResponse, requests []certs.CertificateRequest) ([]certs.SignResult, error) {
	if len(m.GetResults()) != len(requests) {
		return nil, fmt.Errorf("%d results for %d requests", len(m.GetResults()), len(requests))
	}
	for i, r := range m.GetResults() {
		if r.GetId() != requests[i].ID {
			return nil, fmt.Errorf("result %d answers request %q instead of %q", i+1, r.GetId(), requests[i].ID)
		}
	}
	return eachFrom("result", m.GetResults(), toSignResult)
}

func toSignResult(m *certsv1.SignResult) (certs.SignResult, error) {
	r := certs.SignResult{ID: m.GetId()}
	switch o := m.GetOutcome().(type) {
	case *certsv1.SignResult_Granted:
		r.Granted = &certs.Granted{Certificate: o.Granted.GetCertificate(), Changes: o.Granted.GetChanges()}
	case *certsv1.SignResult_Pending:
		d, err := toDuration("retry after", o.Pending.GetRetryAfter())
		if err != nil {
			return r, err
		}
		r.Pending = &plugin.NotYet{RetryAfter: d, WaitingFor: o.Pending.GetWaitingFor()}
	case *certsv1.SignResult_Refused:
		r.Refused = &certs.Refused{Reason: toReason(o.Refused.GetReason()), Message: Clean(o.Refused.GetMessage())}
	default:
		return r, errors.New("no outcome that this version knows")
	}
	return r, nil
}

// FromCrossSign encodes a request.
func FromCrossSign(r certs.CrossSignRequest) *certsv1.CrossSignRequest {
	return &certsv1.CrossSignRequest{Call: FromCall(r.Call), Authority: r.Authority, Generation: r.Generation,
		Certificate: r.Certificate, Now: fromTime(r.Now)}
}

// ToCrossSign decodes a request.
func ToCrossSign(m *certsv1.CrossSignRequest) (certs.CrossSignRequest, error) {
	now, err := toTime("now", m.GetNow())
	return certs.CrossSignRequest{Call: ToCall(m.GetCall()), Authority: m.GetAuthority(), Generation: m.GetGeneration(),
		Certificate: m.GetCertificate(), Now: now}, err
}
