package node

import (
	"bytes"
	"errors"
	"strings"
	"testing"
	"time"
)

func TestRecordComesBack(t *testing.T) {
	t.Parallel()
	r := create(t, Options{})
	rec := NewRecord("n1.example", time.Unix(1e9, 0))
	rec.Address, rec.Addresses, rec.ClusterID, rec.Network.CNI = "10.0.0.5", []string{"2001:db8::1"}, NewID(), "flannel"
	rec.Stopped, rec.StoppedAt, rec.Installed = true, time.Unix(2e9, 0).UTC(), "v1.2.3"
	if err := r.SaveRecord(rec); err != nil {
		t.Fatal(err)
	}
	got, err := r.LoadRecord()
	if err != nil {
		t.Fatal(err)
	}
	a, errA := rec.Marshal()
	b, errB := got.Marshal()
	if errA != nil || errB != nil || !bytes.Equal(a, b) {
		t.Errorf("got %s, want %s", b, a)
	}
	rec.Name = "Bad_Name"
	if err := r.SaveRecord(rec); err == nil {
		t.Error("a bad record is saved")
	}
}

func TestRecordIsJudged(t *testing.T) {
	t.Parallel()
	good, err := NewRecord("n1", time.Unix(1e9, 0)).Marshal()
	if err != nil {
		t.Fatal(err)
	}
	for name, tt := range map[string]struct{ from, to, want string }{
		"newer schema":      {`"schema": 1`, `"schema": 9, "x": 1`, "2: schema 9: written by a newer mk"},
		"no schema":         {`"schema": 1`, `"schema": 0`, "2: schema 0"},
		"unknown field":     {`"role"`, `"rôle"`, "5: unknown field"},
		"other letters":     {`"role"`, `"Role"`, "5: unknown field"},
		"twice":             {`"role": "control-plane",`, `"role": "worker", "role": "worker",`, "5: field \"role\" a second time"},
		"nested unknown":    {`"dns"`, `"dnss"`, `unknown field "dnss"`},
		"wrong type":        {`16443`, `"16443"`, "11: "},
		"bad name":          {`"n1"`, `"N1"`, `4: name: "N1"`},
		"bad role":          {`"control-plane"`, `"master"`, "5: role"},
		"dns outside":       {`10.152.183.10"`, `10.0.0.1"`, "dns"},
		"host bits":         {`10.1.0.0/16`, `10.1.0.1/16`, "write 10.1.0.0/16"},
		"overlap":           {`10.152.183.0/24`, `10.1.3.0/24`, "overlaps"},
		"port":              {`16443`, `0`, "apiPort: 0 is not a port"},
		"same ports":        {`16443`, `25000`, "is the API server's"},
		"no id":             {`"id": "`, `"id": "x`, "3: id"},
		"cut short":         {"}\n}\n", "}\n", "ends too early"},
		"text after":        {"}\n}\n", "}\n}\nx", "text after"},
		"an array":          {string(good), "[]", "1: expected an object"},
		"network is null":   {string(good), `{"schema":1,"network":null}`, "1: expected an object"},
		"two of one family": {`"10.1.0.0/16"`, `"10.1.0.0/16,10.2.0.0/16"`, "one of each family"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			text := strings.Replace(string(good), tt.from, tt.to, 1)
			if text == string(good) {
				if text = strings.TrimSuffix(text, "}\n"); !strings.HasPrefix(tt.from, "}") {
					t.Fatalf("%q is not in %s", tt.from, good)
				}
				text += strings.TrimPrefix(tt.to, "}\n")
			}
			_, err := ParseRecord([]byte(text))
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error %v, want one with %q", err, tt.want)
			}
			if strings.Contains(tt.want, "newer") && !errors.Is(err, ErrNewerSchema) {
				t.Error("not ErrNewerSchema")
			}
		})
	}
}

func FuzzRecord(f *testing.F) {
	good, err := NewRecord("n1", time.Unix(1e9, 0)).Marshal()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add([]byte(`{"schema":1,"network":{}}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		rec, err := ParseRecord(data)
		if err != nil {
			return
		}
		text, err := rec.Marshal()
		if err != nil {
			t.Fatalf("%q: %v", data, err)
		}
		if _, err := ParseRecord(text); err != nil {
			t.Errorf("%s: %v", text, err)
		}
	})
}

// The address of DNS follows the range of services.
func TestServicesBringTheirDNS(t *testing.T) {
	t.Parallel()
	for cidr, want := range map[string]string{
		"10.96.0.0/12": "10.96.0.10", "10.152.183.0/24": "10.152.183.10", "fd00:10::/112": "fd00:10::a", "172.30.0.0/16,fd00::/112": "172.30.0.10",
		"10.0.0.0/29": "10.0.0.10", // which is not in it: Check says so
		"nonsense":    "10.152.183.10", "10.1.2.3/16": "10.152.183.10",
	} {
		n := DefaultNetwork()
		if n.SetServices(cidr); n.DNS != want || n.ServiceCIDR != cidr {
			t.Errorf("%s: DNS at %s, want %s", cidr, n.DNS, want)
		}
	}
}
