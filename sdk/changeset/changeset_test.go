package changeset

import (
	"bytes"
	"encoding/json"
	"reflect"
	"strings"
	"testing"
	"time"
)

// all holds every action.
func all() ChangeSet {
	digest := "sha256:" + strings.Repeat("0a", 32)
	return Build().
		MakeFolder("var/x").Mode(0o700).Because("x lives there").
		WriteFile("credentials/x", []byte("hush")).Mode(0o600).Secret().Expecting(Absent).
		WriteFile("args/binary", []byte{0xff, 0xfe}).
		MovePath("a", "b").Expecting(digest).
		RemovePath("c").
		SetArgument("kubelet", "node-ip", "10.0.0.1").Owner("clustering/etcd").
		SetArgument("kubelet", "token", "hush").Secret().
		SetFlag("etcd", "debug").
		RemoveArgument("kubelet", "node-ip", "clustering/etcd").
		SetLock("clustered.lock").ClearLock("stopped.lock").
		Start("etcd").Stop("etcd").Restart("kubelite").
		IssueCertificate("datastore").DNSNames("a.b").IPAddresses("10.0.0.1").Life(time.Hour).Peer("10.0.0.2:25000").
		SetTrust("kubernetes", []byte("PEM")).
		ChangeMember(AddLearner, "https://10.0.0.1:2380", "n1").
		Wait(Wait{Timeout: time.Minute, Object: &ObjectReference{Group: "apps", Version: "v1", Kind: "Deployment", Namespace: "kube-system", Name: "coredns"}}).
		ApplyManifests("dns", []byte("kind: Secret\n")).Secret().OnEveryNode().
		DeleteManifests("dns").
		Add(&ActivatePlugin{Kind: "certs", Name: "x", Digest: digest, Authority: "kubernetes"}).
		ChangeSet()
}

func TestJSONRoundTrip(t *testing.T) {
	t.Parallel()
	want := all()
	if err := want.Validate(); err != nil {
		t.Fatal(err)
	}
	b, err := json.Marshal(want)
	if err != nil {
		t.Fatal(err)
	}
	var got ChangeSet
	if err := json.Unmarshal(b, &got); err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(got, want) {
		t.Fatalf("got %s", b)
	}
	if !bytes.Contains(b, []byte(`{"makeFolder":{"path":"var/x","mode":448},"why":"x lives there"}`)) {
		t.Errorf("unstable form: %s", b)
	}
}

func TestRedactedHoldsNoSecret(t *testing.T) {
	t.Parallel()
	c := all()
	b, err := json.Marshal(c.Redacted())
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Contains(b, []byte("hush")) || bytes.Contains(b, []byte("kind: Secret")) {
		t.Fatalf("a secret is left: %s", b)
	}
	if !bytes.Contains(b, []byte("‹secret, 4 bytes›")) {
		t.Fatalf("no placeholder: %s", b)
	}
	if !reflect.DeepEqual(c, all()) {
		t.Fatal("redacting changed the original")
	}
}

func TestValidateNamesAllFaults(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		c    ChangeSet
		want []string
	}{
		"paths": {Build().RemovePath("../etc").RemovePath("/etc").RemovePath("a/./b").RemovePath("").RemovePath("a\nb").RemovePath(".").ChangeSet(),
			[]string{"operation 1: remove", "operation 2", "is absolute", "operation 3", "operation 4", "operation 5", "operation 6"}},
		"modes": {Build().WriteFile("a", nil).Mode(0o4755).WriteFile("b", nil).Mode(0o644).Secret().MakeFolder("c").Mode(0o777).ChangeSet(),
			[]string{"more than permission bits", "lets others read a secret", "lets everyone write"}},
		"size":    {Build().WriteFile("a", make([]byte, MaxFile+1)).ChangeSet(), []string{"at most 4194304"}},
		"names":   {Build().Start("Kubelet!").SetFlag("etcd", "--x").SetLock("../x").IssueCertificate("").ChangeSet(), []string{"service", "option", "lock", "profile"}},
		"waits":   {Build().Wait(Wait{Timeout: time.Hour}).Wait(Wait{Service: "etcd", Node: "n"}).ChangeSet(), []string{"timeout 1h0m0s", "0 targets", "2 targets"}},
		"members": {Build().ChangeMember("x", "http://a:1", "").ChangeSet(), []string{"unknown", "https://address:port"}},
		"no action": {ChangeSet{Operations: []Operation{{}, {Action: (*WriteFile)(nil)}}},
			[]string{"operation 1: nothing: has no action", "operation 2: nothing: has no action"}},
		"condition": {Build().RemovePath("a").Expecting("md5:1").Because("two\nlines").ChangeSet(), []string{"expects", "one line"}},
		"value":     {Build().SetArgument("kubelet", "x", "a\nb").ChangeSet(), []string{"value is not one line"}},
		"too many":  {ChangeSet{Operations: make([]Operation, MaxOperations+1)}, []string{"at most 1000"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			err := tc.c.Validate()
			if err == nil {
				t.Fatal("no fault")
			}
			for _, w := range tc.want {
				if !strings.Contains(err.Error(), w) {
					t.Errorf("no %q in: %v", w, err)
				}
			}
		})
	}
}

func TestTotalSize(t *testing.T) {
	t.Parallel()
	b := Build()
	for _, p := range []string{"a", "b", "c", "d", "e"} {
		b.WriteFile(p, make([]byte, MaxFile))
	}
	if err := b.ChangeSet().Validate(); err == nil || !strings.Contains(err.Error(), "at most 16777216") {
		t.Fatal(err)
	}
}

func TestLinesNeverShowValues(t *testing.T) {
	t.Parallel()
	for _, o := range all().Operations {
		if s := o.String(); strings.Contains(s, "hush") || o.Verb() == "" || o.Target() == "" {
			t.Errorf("%q", s)
		}
	}
}

func FuzzJSON(f *testing.F) {
	seed, err := json.Marshal(all())
	if err != nil {
		f.Fatal(err)
	}
	f.Add(seed)
	f.Add([]byte(`{"operations":[{"writeFile":null}]}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		var c ChangeSet
		if json.Unmarshal(b, &c) != nil {
			return
		}
		_ = c.Validate()
		_ = c.Redacted()
		again, err := json.Marshal(c)
		if err != nil {
			t.Fatal(err)
		}
		var second ChangeSet
		if err := json.Unmarshal(again, &second); err != nil {
			t.Fatalf("%v: %s", err, again)
		}
	})
}
