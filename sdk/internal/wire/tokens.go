package wire

import (
	"mk8s.io/mk/sdk/plugin"
	tokensv1 "mk8s.io/mk/sdk/proto/mk/tokens/v1"
	"mk8s.io/mk/sdk/tokens"
)

func purposes() map[tokens.Purpose]tokensv1.Purpose {
	return map[tokens.Purpose]tokensv1.Purpose{
		tokens.Join:               tokensv1.Purpose_PURPOSE_JOIN,
		tokens.Persistent:         tokensv1.Purpose_PURPOSE_PERSISTENT,
		tokens.Callback:           tokensv1.Purpose_PURPOSE_CALLBACK,
		tokens.CertificateRequest: tokensv1.Purpose_PURPOSE_CERTIFICATE_REQUEST,
	}
}

func fromPurpose(p tokens.Purpose) (tokensv1.Purpose, error) {
	v, err := fromEnum(purposes(), p)
	if err != nil {
		return v, plugin.Errorf(plugin.BadArgument, "purpose %v", err)
	}
	return v, nil
}

func toPurpose(p tokensv1.Purpose) (tokens.Purpose, error) {
	return toEnum("purpose", purposes(), p)
}

// FromIssue encodes a request.
func FromIssue(r tokens.IssueRequest) (*tokensv1.IssueRequest, error) {
	p, err := fromPurpose(r.Purpose)
	return &tokensv1.IssueRequest{Call: FromCall(r.Call), Purpose: p, Role: r.Role, BoundNames: r.BoundNames,
		Lifetime: fromDuration(r.Lifetime), Uses: r.Uses, Token: r.Token}, err
}

// ToIssue decodes a request.
func ToIssue(m *tokensv1.IssueRequest) (tokens.IssueRequest, error) {
	p, err := toPurpose(m.GetPurpose())
	if err != nil {
		return tokens.IssueRequest{}, err
	}
	d, err := toDuration("lifetime", m.GetLifetime())
	return tokens.IssueRequest{Call: ToCall(m.GetCall()), Purpose: p, Role: m.GetRole(), BoundNames: m.GetBoundNames(),
		Lifetime: d, Uses: m.GetUses(), Token: m.GetToken()}, err
}

// FromIssued encodes an answer.
func FromIssued(i tokens.Issued) *tokensv1.IssueResponse {
	return &tokensv1.IssueResponse{Token: i.Token, Id: i.ID, Expires: fromTime(i.Expires)}
}

// ToIssued decodes an answer.
func ToIssued(m *tokensv1.IssueResponse) (tokens.Issued, error) {
	t, err := toTime("expires", m.GetExpires())
	return tokens.Issued{Token: m.GetToken(), ID: m.GetId(), Expires: t}, err
}

func fromClaimant(c tokens.Claimant) *tokensv1.Claimant {
	return &tokensv1.Claimant{KeyFingerprint: c.KeyFingerprint, Name: c.Name, Address: c.Address}
}

func toClaimant(m *tokensv1.Claimant) tokens.Claimant {
	return tokens.Claimant{KeyFingerprint: m.GetKeyFingerprint(), Name: m.GetName(), Address: m.GetAddress()}
}

// FromReserve encodes a request.
func FromReserve(r tokens.ReserveRequest) (*tokensv1.ReserveRequest, error) {
	p, err := fromPurpose(r.Purpose)
	return &tokensv1.ReserveRequest{Call: FromCall(r.Call), Token: r.Token, Claimant: fromClaimant(r.Claimant),
		Purpose: p, Lease: fromDuration(r.Lease)}, err
}

// ToReserve decodes a request.
func ToReserve(m *tokensv1.ReserveRequest) (tokens.ReserveRequest, error) {
	p, err := toPurpose(m.GetPurpose())
	if err != nil {
		return tokens.ReserveRequest{}, err
	}
	d, err := toDuration("lease", m.GetLease())
	return tokens.ReserveRequest{Call: ToCall(m.GetCall()), Token: m.GetToken(), Claimant: toClaimant(m.GetClaimant()),
		Purpose: p, Lease: d}, err
}

// FromReservation encodes an answer.
func FromReservation(r tokens.Reservation) (*tokensv1.ReserveResponse, error) {
	p, err := fromPurpose(r.Purpose)
	return &tokensv1.ReserveResponse{ReservationId: r.ID, TokenId: r.TokenID, Purpose: p, Role: r.Role,
		BoundNames: r.BoundNames, Until: fromTime(r.Until)}, err
}

// ToReservation decodes an answer.
func ToReservation(m *tokensv1.ReserveResponse) (tokens.Reservation, error) {
	p, err := toPurpose(m.GetPurpose())
	if err != nil {
		return tokens.Reservation{}, err
	}
	t, err := toTime("until", m.GetUntil())
	return tokens.Reservation{ID: m.GetReservationId(), TokenID: m.GetTokenId(), Purpose: p, Role: m.GetRole(),
		BoundNames: m.GetBoundNames(), Until: t}, err
}

// FromTokens encodes a list.
func FromTokens(list []tokens.Token) (*tokensv1.ListResponse, error) {
	out, err := eachFrom("token", list, func(t tokens.Token) (*tokensv1.Token, error) {
		p, err := fromPurpose(t.Purpose)
		return &tokensv1.Token{Id: t.ID, Purpose: p, Role: t.Role, BoundNames: t.BoundNames, Created: fromTime(t.Created),
			Expires: fromTime(t.Expires), UsesLeft: t.UsesLeft, Unbounded: t.Unbounded, ReservedBy: each(t.ReservedBy, fromClaimant)}, err
	})
	return &tokensv1.ListResponse{Tokens: out}, err
}

// ToTokens decodes a list.
func ToTokens(m *tokensv1.ListResponse) ([]tokens.Token, error) {
	return eachFrom("token", m.GetTokens(), func(t *tokensv1.Token) (tokens.Token, error) {
		p, err := toPurpose(t.GetPurpose())
		if err != nil {
			return tokens.Token{}, err
		}
		created, err := toTime("created", t.GetCreated())
		if err != nil {
			return tokens.Token{}, err
		}
		expires, err := toTime("expires", t.GetExpires())
		return tokens.Token{ID: t.GetId(), Purpose: p, Role: t.GetRole(), BoundNames: t.GetBoundNames(), Created: created,
			Expires: expires, UsesLeft: t.GetUsesLeft(), Unbounded: t.GetUnbounded(), ReservedBy: each(t.GetReservedBy(), toClaimant)}, err
	})
}

// FromCredentials encodes a list.
func FromCredentials(list []tokens.Credential) []*tokensv1.Credential {
	return each(list, func(c tokens.Credential) *tokensv1.Credential {
		return &tokensv1.Credential{Token: c.Token, User: c.User, Uid: c.UID, Groups: c.Groups}
	})
}

// ToCredentials decodes a list.
func ToCredentials(list []*tokensv1.Credential) []tokens.Credential {
	return each(list, func(c *tokensv1.Credential) tokens.Credential {
		return tokens.Credential{Token: c.GetToken(), User: c.GetUser(), UID: c.GetUid(), Groups: c.GetGroups()}
	})
}
