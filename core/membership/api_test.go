package membership

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path"
	"path/filepath"
	"reflect"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes/scheme"

	"mk8s.io/mk/core/node"
	"mk8s.io/mk/core/operation"
)

// objects is an API server that keeps what it is given, by path. It knows no
// rules but that of resource versions.
type objects struct {
	mu      sync.Mutex
	kept    map[string]*unstructured.Unstructured
	version int
	before  func(verb, name string) // is called before each request is done, if it is there
}

func (o *objects) put(at string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.kept[at] = &unstructured.Unstructured{Object: map[string]any{}}
}

func (o *objects) names(folder string) (out []string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for p := range o.kept {
		if path.Dir(p) == folder {
			out = append(out, path.Base(p))
		}
	}
	return out
}

func (o *objects) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if o.before != nil {
		o.before(r.Method, path.Base(r.URL.Path))
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	in, err := decode(r)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	target := r.URL.Path
	if r.Method == http.MethodPost {
		target = path.Join(target, in.GetName())
	}
	old := o.kept[target]
	switch {
	case r.Method == http.MethodGet && strings.HasSuffix(target, "s") && old == nil && path.Base(path.Dir(target)) == "mk-system":
		o.list(w, target, r.URL.Query().Get("labelSelector"))
	case path.Base(r.URL.Path) == "subjectaccessreviews": // of a kubelet that is to be refused
		in.Object["status"] = map[string]any{"denied": true}
		say(w, http.StatusCreated, in)
	case r.Method == http.MethodGet && old == nil, r.Method == http.MethodDelete && old == nil, r.Method == http.MethodPut && old == nil:
		say(w, http.StatusNotFound, metav1.Status{Status: "Failure", Reason: metav1.StatusReasonNotFound, Code: http.StatusNotFound})
	case r.Method == http.MethodPut && old.GetResourceVersion() != in.GetResourceVersion(), r.Method == http.MethodDelete && in.GetResourceVersion() != "" && old.GetResourceVersion() != in.GetResourceVersion():
		say(w, http.StatusConflict, metav1.Status{Status: "Failure", Reason: metav1.StatusReasonConflict, Code: http.StatusConflict})
	case r.Method == http.MethodGet:
		say(w, http.StatusOK, old)
	case r.Method == http.MethodDelete:
		delete(o.kept, target)
		say(w, http.StatusOK, metav1.Status{Status: "Success"})
	case r.Method == http.MethodPut && same(old, in): // writes nothing
		say(w, http.StatusOK, old)
	default:
		o.version++
		in.SetResourceVersion(strconv.Itoa(o.version))
		in.SetUID("u")
		o.kept[target] = in
		say(w, http.StatusOK, in)
	}
}

func same(a, b *unstructured.Unstructured) bool {
	a, b = a.DeepCopy(), b.DeepCopy()
	b.SetUID(a.GetUID())
	return reflect.DeepEqual(a.Object, b.Object)
}

func (o *objects) list(w http.ResponseWriter, folder, selector string) {
	key, value, _ := strings.Cut(selector, "=")
	items := []any{}
	for p, x := range o.kept {
		if path.Dir(p) == folder && x.GetLabels()[key] == value {
			items = append(items, x)
		}
	}
	say(w, http.StatusOK, map[string]any{"kind": "ConfigMapList", "apiVersion": "v1", "metadata": map[string]any{"resourceVersion": strconv.Itoa(o.version)}, "items": items})
}

// decode reads what a client sends: protobuf from a typed one, else JSON. Of a
// DELETE it is what must hold.
func decode(r *http.Request) (*unstructured.Unstructured, error) {
	body, err := io.ReadAll(r.Body)
	if err != nil || len(body) == 0 && r.Method != http.MethodDelete {
		return nil, err
	}
	if r.Method == http.MethodDelete {
		out, opts := &unstructured.Unstructured{Object: map[string]any{}}, &metav1.DeleteOptions{}
		if len(body) > 0 {
			_, _, err = scheme.Codecs.UniversalDeserializer().Decode(body, nil, opts)
		}
		if p := opts.Preconditions; p != nil && p.ResourceVersion != nil {
			out.SetResourceVersion(*p.ResourceVersion)
		}
		return out, err
	}
	if r.Method == http.MethodPatch {
		out := &unstructured.Unstructured{}
		return out, json.Unmarshal(body, out)
	}
	obj, _, err := scheme.Codecs.UniversalDeserializer().Decode(body, nil, nil)
	if err != nil {
		return nil, err
	}
	content, err := runtime.DefaultUnstructuredConverter.ToUnstructured(obj)
	out := &unstructured.Unstructured{Object: content}
	out.SetGroupVersionKind(obj.GetObjectKind().GroupVersionKind())
	return out, err
}

func say(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v)
}

// at is the time of the nodes that serve here.
var at = time.Unix(1_000_000_000, 0).UTC() //nolint:gochecknoglobals // a constant

// serving is a control-plane node whose API server keeps objects.
func serving(t *testing.T) (Node, *objects) {
	t.Helper()
	api := &objects{kept: map[string]*unstructured.Unstructured{}}
	return servingOn(t, api), api
}

// servingOn is one more.
func servingOn(t *testing.T, api *objects) Node {
	t.Helper()
	s := httptest.NewServer(api)
	t.Cleanup(s.Close)
	root, err := node.Create(t.TempDir()+"/mk", node.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = root.Close() })
	config := fmt.Sprintf(`{"apiVersion":"v1","kind":"Config","clusters":[{"name":"c","cluster":{"server":%q}}],`+
		`"contexts":[{"name":"x","context":{"cluster":"c","user":"u"}}],"users":[{"name":"u","user":{"token":"t"}}],"current-context":"x"}`, s.URL)
	if err := root.WriteFile("credentials/client.config", []byte(config), node.Perm{Mode: 0o600, UID: -1, GID: -1}); err != nil {
		t.Fatal(err)
	}
	mk := filepath.Join(t.TempDir(), "bin/mk")
	err = errors.Join(os.Mkdir(filepath.Dir(mk), 0o700), os.WriteFile(mk, nil, 0o600), root.SaveRecord(node.NewRecord("n1", at)))
	if err != nil {
		t.Fatal(err)
	}
	n, err := operation.OpenNode(operation.Options{Root: root.Dir(), Executable: mk, Now: func() time.Time { return at },
		Env: func(string) string { return "" }, Progress: quiet{}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = n.Close() })
	return Of(n)
}

// quiet is told and says nothing.
type quiet struct{}

func (quiet) Begin(string) {}

func (quiet) Detail(string) {}

func (quiet) End(string, time.Duration, error) {}
