package cluster

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes/fake"
	clienttesting "k8s.io/client-go/testing"

	"mk8s.io/mk/core/kube"
	"mk8s.io/mk/sdk/changeset"
)

// fakes are a cluster's documents, kept by client-go's fake, which is taught to count
// and compare resource versions, as an API server does.
type fakes struct{ fake *fake.Clientset }

func newFakes() fakes {
	d := fakes{fake.NewClientset()}
	version := 0
	conflict := func(name string) error {
		return apierrors.NewConflict(corev1.Resource("configmaps"), name, errors.New("it has another version"))
	}
	stored := func(namespace, name string) string {
		o, err := d.fake.Tracker().Get(corev1.SchemeGroupVersion.WithResource("configmaps"), namespace, name)
		if err != nil {
			return ""
		}
		return o.(*corev1.ConfigMap).ResourceVersion
	}
	write := func(a clienttesting.Action) (bool, runtime.Object, error) {
		cm := a.(clienttesting.CreateAction).GetObject().(*corev1.ConfigMap)
		if a.GetVerb() == "update" && stored(cm.Namespace, cm.Name) != cm.ResourceVersion {
			return true, nil, conflict(cm.Name)
		}
		version++
		cm.ResourceVersion = strconv.Itoa(version)
		return false, nil, nil // the fake keeps it
	}
	d.fake.PrependReactor("create", "configmaps", write)
	d.fake.PrependReactor("update", "configmaps", write)
	d.fake.PrependReactor("delete", "configmaps", func(a clienttesting.Action) (bool, runtime.Object, error) {
		del := a.(clienttesting.DeleteActionImpl)
		if p := del.DeleteOptions.Preconditions; p != nil && p.ResourceVersion != nil && *p.ResourceVersion != stored(del.Namespace, del.Name) {
			if stored(del.Namespace, del.Name) != "" {
				return true, nil, conflict(del.Name)
			}
		}
		return false, nil, nil
	})
	return d
}

func from(cm *corev1.ConfigMap) kube.Document {
	data := map[string][]byte{}
	for k, v := range cm.Data {
		data[k] = []byte(v)
	}
	return kube.Document{Kind: kube.PlainDocument, Namespace: cm.Namespace, Name: cm.Name, Labels: cm.Labels, Data: data, Version: cm.ResourceVersion}
}

func (d fakes) ReadDocument(ctx context.Context, _ kube.DocumentKind, namespace, name string) (kube.Document, error) {
	cm, err := d.fake.CoreV1().ConfigMaps(namespace).Get(ctx, name, metav1.GetOptions{})
	if err != nil {
		return kube.Document{}, err
	}
	return from(cm), nil
}

func (d fakes) ListDocuments(ctx context.Context, _ kube.DocumentKind, namespace, selector string) ([]kube.Document, error) {
	list, err := d.fake.CoreV1().ConfigMaps(namespace).List(ctx, metav1.ListOptions{LabelSelector: selector})
	if err != nil {
		return nil, err
	}
	var out []kube.Document
	for i := range list.Items {
		out = append(out, from(&list.Items[i]))
	}
	return out, nil
}

func (d fakes) WriteDocument(ctx context.Context, doc kube.Document) (kube.Document, error) {
	cm := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: doc.Namespace, Name: doc.Name, Labels: doc.Labels, ResourceVersion: doc.Version}, Data: map[string]string{}}
	for k, v := range doc.Data {
		cm.Data[k] = string(v)
	}
	maps := d.fake.CoreV1().ConfigMaps(doc.Namespace)
	var err error
	if doc.Version == "" {
		cm, err = maps.Create(ctx, cm, metav1.CreateOptions{})
	} else {
		cm, err = maps.Update(ctx, cm, metav1.UpdateOptions{})
	}
	if err != nil {
		return kube.Document{}, err
	}
	return from(cm), nil
}

func (d fakes) DeleteDocument(ctx context.Context, doc kube.Document) error {
	opts := metav1.DeleteOptions{}
	if doc.Version != "" {
		opts.Preconditions = &metav1.Preconditions{ResourceVersion: &doc.Version}
	}
	if err := d.fake.CoreV1().ConfigMaps(doc.Namespace).Delete(ctx, doc.Name, opts); err != nil && !kube.NotFound(err) {
		return err
	}
	return nil
}

func member(name string) *Member {
	return &Member{
		Name: name, ID: "id-" + name, Role: "control-plane", Address: "10.0.0.1", AgentPort: 25000, State: Joining,
		Until:    time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC),
		TakeBack: &changeset.ChangeSet{Operations: []changeset.Operation{{Action: &changeset.ClearLock{Name: "x"}}}},
	}
}

func TestARecordIsReadAsItWasWritten(t *testing.T) {
	t.Parallel()
	s := Members{docs: newFakes()}
	if m, err := s.Get(t.Context(), "b"); m != nil || err != nil {
		t.Fatalf("a record that is not there: %v %v", m, err)
	}
	for _, name := range []string{"b", "a"} {
		if err := s.Put(t.Context(), member(name)); err != nil {
			t.Fatal(err)
		}
	}
	// What else lies in the namespace is no record.
	other := kube.Document{Namespace: kube.SystemNamespace, Name: "other", Data: map[string][]byte{field: []byte("{}")}}
	if _, err := s.docs.WriteDocument(t.Context(), other); err != nil {
		t.Fatal(err)
	}
	all, err := s.List(t.Context())
	if err != nil || len(all) != 2 || all[0].Name != "a" || all[1].Name != "b" {
		t.Fatalf("%+v %v", all, err)
	}
	got, err := s.Get(t.Context(), "b")
	if err != nil {
		t.Fatal(err)
	}
	have, errHave := json.Marshal(got)
	want, errWant := json.Marshal(member("b"))
	if errors.Join(errHave, errWant) != nil || string(have) != string(want) {
		t.Errorf("%s instead of %s", have, want)
	}
	if got.Agent() != "10.0.0.1:25000" || (&Member{Address: "fd00::1", AgentPort: 1}).Agent() != "[fd00::1]:1" {
		t.Errorf("agent at %s", got.Agent())
	}
}

// TestNobodyWritesOverWhatHeHasNotRead is what two nodes do at once.
func TestNobodyWritesOverWhatHeHasNotRead(t *testing.T) {
	t.Parallel()
	ctx, s := t.Context(), Members{docs: newFakes()}
	mine := member("a")
	if err := s.Put(ctx, mine); err != nil {
		t.Fatal(err)
	}
	theirs, err := s.Get(ctx, "a")
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		what    string
		do      func() error
		changed bool
	}{
		{"a second new one", func() error { return s.Put(ctx, member("a")) }, true},
		{"they write", func() error { theirs.State = Joined; return s.Put(ctx, theirs) }, false},
		{"they write again what they have written", func() error { return s.Put(ctx, theirs) }, false},
		{"I write what I had read before", func() error { return s.Put(ctx, mine) }, true},
		{"I delete what I had read before", func() error { return s.Delete(ctx, mine) }, true},
		{"they delete", func() error { return s.Delete(ctx, theirs) }, false},
		{"they delete again", func() error { return s.Delete(ctx, theirs) }, false},
	} {
		if err := c.do(); errors.Is(err, ErrChanged) != c.changed || (err != nil) != c.changed {
			t.Errorf("%s: %v", c.what, err)
		}
	}
}

func TestARecordOfAnotherNameOrNoneIsRefused(t *testing.T) {
	t.Parallel()
	for what, text := range map[string]string{"nothing": "", "no JSON": "{", "another name": `{"name": "b"}`, "no name": "{}"} {
		s := Members{docs: newFakes()}
		doc := kube.Document{
			Namespace: kube.SystemNamespace, Name: prefix + "a", Labels: map[string]string{label: "node"}, Data: map[string][]byte{field: []byte(text)},
		}
		if _, err := s.docs.WriteDocument(t.Context(), doc); err != nil {
			t.Fatal(err)
		}
		_, err := s.Get(t.Context(), "a")
		_, errAll := s.List(t.Context())
		for _, err := range []error{err, errAll} {
			if err == nil || !strings.Contains(err.Error(), "a") {
				t.Errorf("%s: %v", what, err)
			}
		}
	}
}

func TestLive(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	var live []string
	for name, m := range map[string]Member{
		"joined": {State: Joined}, "leased": {State: Joining, Until: now.Add(time.Second)}, "over": {State: Joining, Until: now},
		"votes": {State: Joining, Forward: true}, "none": {State: Joining},
	} {
		if m.Live(now) {
			live = append(live, name)
		}
	}
	slices.Sort(live)
	if !slices.Equal(live, []string{"joined", "leased", "votes"}) {
		t.Errorf("live: %v", live)
	}
}
