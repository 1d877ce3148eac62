package main

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes/scheme"

	"mk8s.io/mk/core/revoked"
)

// server is an API server.
type server struct {
	options map[string]string
	store   *store
	killer  *killer
}

func newServer(argsFile string) (*server, error) {
	o, err := optionsIn(argsFile)
	if err != nil {
		return nil, err
	}
	s, err := openStore(o["etcd-servers"], o["etcd-cafile"], o["etcd-certfile"], o["etcd-keyfile"])
	return &server{o, s, &killer{root: filepath.Dir(filepath.Dir(argsFile))}}, err
}

// run serves until ctx ends.
func (s *server) run(ctx context.Context) error {
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", net.JoinHostPort(s.options["bind-address"], s.options["secure-port"]))
	if err != nil {
		return err
	}
	go s.store.renews(ctx)
	h := &http.Server{Handler: s, ReadHeaderTimeout: 10 * time.Second, TLSConfig: &tls.Config{
		MinVersion: tls.VersionTLS12, ClientAuth: tls.RequestClientCert, NextProtos: []string{"h2", "http/1.1"},
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
			pair, err := tls.LoadX509KeyPair(s.options["tls-cert-file"], s.options["tls-private-key-file"])
			return &pair, err
		},
	}, BaseContext: func(net.Listener) context.Context { return ctx }}
	context.AfterFunc(ctx, func() { _ = h.Close() })
	if err := h.ServeTLS(l, "", ""); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// kinds are those that are served, by group version and resource.
func kinds() map[string]map[string]string {
	return map[string]map[string]string{
		"/api/v1": {"namespaces": "Namespace", "nodes": "Node", "configmaps": "ConfigMap", "secrets": "Secret", "pods": "Pod", "events": "Event"},
		"/apis/rbac.authorization.k8s.io/v1": {"roles": "Role", "rolebindings": "RoleBinding", "clusterroles": "ClusterRole",
			"clusterrolebindings": "ClusterRoleBinding"},
		"/apis/certificates.k8s.io/v1":  {"certificatesigningrequests": "CertificateSigningRequest"},
		"/apis/discovery.k8s.io/v1":     {"endpointslices": "EndpointSlice"},
		"/apis/policy/v1":               {"poddisruptionbudgets": "PodDisruptionBudget"},
		"/apis/authorization.k8s.io/v1": {"subjectaccessreviews": "SubjectAccessReview"},
		"/apis/admissionregistration.k8s.io/v1": {"validatingadmissionpolicies": "ValidatingAdmissionPolicy",
			"validatingadmissionpolicybindings": "ValidatingAdmissionPolicyBinding"},
	}
}

func namespaced(resource string) bool {
	switch resource {
	case "configmaps", "secrets", "pods", "events", "roles", "rolebindings", "endpointslices", "poddisruptionbudgets":
		return true
	}
	return false
}

// target is what a path names.
type target struct{ version, kind, collection, name string }

// find takes a path apart: /api/v1[/namespaces/NS]/RESOURCE[/NAME[/SUB]].
func find(path string) (t target, ok bool) {
	for version, resources := range kinds() {
		rest, under := strings.CutPrefix(path, version+"/")
		if !under {
			continue
		}
		parts := strings.Split(rest, "/")
		collection := version
		if len(parts) > 2 && parts[0] == "namespaces" && namespaced(parts[2]) {
			collection, parts = version+"/namespaces/"+parts[1], parts[2:]
		}
		t.version, t.kind, t.collection = strings.TrimPrefix(strings.TrimPrefix(version, "/apis/"), "/api/"), resources[parts[0]], collection+"/"+parts[0]
		if len(parts) > 1 {
			t.name = parts[1]
		}
		return t, t.kind != ""
	}
	return t, false
}

// ServeHTTP answers one request.
func (s *server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithTimeout(r.Context(), 90*time.Second)
	defer cancel()
	if r.URL.Path == "/readyz" {
		if _, err := s.store.get(ctx, "/", "readyz"); err != nil && !apierrors.IsNotFound(err) {
			http.Error(w, "[-]etcd failed: "+err.Error(), http.StatusInternalServerError)
		}
		return
	}
	if resources, ok := kinds()[r.URL.Path]; ok {
		list := []object{}
		for name, kind := range resources {
			list = append(list, object{"name": name, "kind": kind, "namespaced": namespaced(name), "verbs": []string{"get"}})
		}
		answer(w, http.StatusOK, object{"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": "", "resources": list})
		return
	}
	t, ok := find(r.URL.Path)
	if !ok {
		refuse(w, apierrors.NewGenericServerResponse(http.StatusNotFound, r.Method, resourceOf(r.URL.Path), "", "the stand-in does not serve "+r.URL.Path, 0, false))
		return
	}
	if r.Method == http.MethodGet && t.name == "" {
		s.many(ctx, w, r, t)
		return
	}
	var o object
	err := context.Canceled // not answered
	s.killer.around(r, func() { o, err = s.one(ctx, r, t) })
	if err != nil {
		refuse(w, err)
		return
	}
	answer(w, http.StatusOK, o)
}

// one reads or changes one object.
func (s *server) one(ctx context.Context, r *http.Request, t target) (object, error) {
	body, err := io.ReadAll(io.LimitReader(r.Body, 8<<20))
	if err != nil {
		return nil, err
	}
	dry := r.URL.Query().Get("dryRun") != ""
	switch r.Method {
	case http.MethodGet:
		return s.store.get(ctx, t.collection, t.name)
	case http.MethodDelete:
		o := &metav1.DeleteOptions{}
		if len(body) > 0 {
			if _, _, err := scheme.Codecs.UniversalDeserializer().Decode(body, nil, o); err != nil {
				return nil, apierrors.NewBadRequest(err.Error())
			}
		}
		version := ""
		if o.Preconditions != nil && o.Preconditions.ResourceVersion != nil {
			version = *o.Preconditions.ResourceVersion
		}
		return s.store.delete(ctx, t.collection, t.name, version)
	case http.MethodPatch:
		return s.patch(ctx, t, body, r.Header.Get("Content-Type"), dry)
	}
	if t.kind == "SubjectAccessReview" {
		return s.review(ctx, body)
	}
	given, err := decode(body, t)
	if err != nil {
		return nil, apierrors.NewBadRequest(err.Error())
	}
	over := int64(0)
	if r.Method == http.MethodPut {
		if over, err = strconv.ParseInt(text(meta(given)["resourceVersion"]), 10, 64); err != nil {
			return nil, apierrors.NewBadRequest("an update names the version that it replaces")
		}
	} else if err := s.admit(ctx, r, t, given); err != nil {
		return nil, err
	}
	if dry {
		return given, nil
	}
	return s.store.put(ctx, t.collection, given, over)
}

// admit is what an API server refuses: programs of nodes that were removed do
// not make them anew.
func (s *server) admit(ctx context.Context, r *http.Request, t target, o object) error {
	name := text(meta(o)["name"])
	if t.kind != "Node" || r.UserAgent() != agent {
		return nil
	}
	gone, err := s.removed(ctx, name)
	if err == nil && gone {
		err = apierrors.NewForbidden(resourceOf(t.collection), name, errors.New("the node was removed from the cluster"))
	}
	return err
}

// review answers a SubjectAccessReview: whether a kubelet is let in.
func (s *server) review(ctx context.Context, body []byte) (object, error) {
	review := object{}
	if err := json.Unmarshal(body, &review); err != nil {
		return nil, apierrors.NewBadRequest(err.Error())
	}
	spec, _ := review["spec"].(object)
	gone, err := s.removed(ctx, strings.TrimPrefix(text(spec["user"]), revoked.KubeletUser))
	review["status"] = object{"allowed": !gone, "denied": gone}
	return review, err
}

// removed reports whether a node is on the list of those that were removed.
func (s *server) removed(ctx context.Context, name string) (bool, error) {
	list, err := s.store.get(ctx, "/api/v1/namespaces/"+revoked.Namespace+"/configmaps", revoked.Name)
	if apierrors.IsNotFound(err) {
		return false, nil
	}
	for _, part := range []string{"data", "binaryData"} {
		names, _ := list[part].(object)
		if _, there := names[name]; there {
			return true, err
		}
	}
	return false, err
}

// patch merges; an apply makes what is not there.
func (s *server) patch(ctx context.Context, t target, body []byte, kind string, dry bool) (object, error) {
	change := object{}
	if err := json.Unmarshal(body, &change); err != nil {
		return nil, apierrors.NewBadRequest(err.Error())
	}
	have, err := s.store.get(ctx, t.collection, t.name)
	over := int64(0)
	switch {
	case apierrors.IsNotFound(err) && strings.HasPrefix(kind, "application/apply-patch"):
		have = object{}
	case err != nil:
		return nil, err
	default:
		version := text(meta(have)["resourceVersion"])
		if want := text(meta(change)["resourceVersion"]); want != "" && want != version {
			return nil, apierrors.NewConflict(resourceOf(t.collection), t.name, errors.New("the object has been modified"))
		}
		if over, err = strconv.ParseInt(version, 10, 64); err != nil {
			return nil, err
		}
	}
	before, err := json.Marshal(have)
	if err != nil {
		return nil, err
	}
	merge(have, change)
	after, err := json.Marshal(have)
	if err != nil {
		return nil, err
	}
	if dry || string(after) == string(before) {
		return have, nil
	}
	return s.store.put(ctx, t.collection, have, over)
}

// merge is RFC 7386.
func merge(into, change object) {
	for k, v := range change {
		inner, isObject := v.(object)
		old, wasObject := into[k].(object)
		switch {
		case v == nil:
			delete(into, k)
		case isObject && wasObject:
			merge(old, inner)
		case isObject:
			fresh := object{}
			merge(fresh, inner)
			into[k] = fresh
		default:
			into[k] = v
		}
	}
}

// decode reads a body, JSON or protobuf.
func decode(body []byte, t target) (object, error) {
	given, gvk, err := scheme.Codecs.UniversalDeserializer().Decode(body, nil, nil)
	if err != nil {
		return nil, err
	}
	o, err := runtime.DefaultUnstructuredConverter.ToUnstructured(given)
	if err != nil {
		return nil, err
	}
	if gvk.Kind != t.kind {
		return nil, fmt.Errorf("%s is no %s", gvk.Kind, t.kind)
	}
	o["apiVersion"], o["kind"] = t.version, t.kind
	return o, nil
}

// many lists or watches.
func (s *server) many(ctx context.Context, w http.ResponseWriter, r *http.Request, t target) {
	q := r.URL.Query()
	wanted, err := selected(q.Get("labelSelector"), q.Get("fieldSelector"))
	if err != nil {
		refuse(w, apierrors.NewBadRequest(err.Error()))
		return
	}
	if q.Get("watch") != "" {
		s.watch(ctx, w, r, t, wanted)
		return
	}
	all, revision, err := s.store.list(ctx, t.collection)
	if err != nil {
		refuse(w, err)
		return
	}
	items := []object{}
	for _, o := range all {
		if wanted(o) {
			items = append(items, o)
		}
	}
	answer(w, http.StatusOK, object{"kind": t.kind + "List", "apiVersion": t.version,
		"metadata": object{"resourceVersion": strconv.FormatInt(revision, 10)}, "items": items})
}

func selected(labelSelector, fieldSelector string) (func(object) bool, error) {
	l, err := labels.Parse(labelSelector)
	if err != nil {
		return nil, err
	}
	f, err := fields.ParseSelector(fieldSelector)
	if err != nil {
		return nil, err
	}
	return func(o object) bool {
		have := labels.Set{}
		given, _ := meta(o)["labels"].(object)
		for k, v := range given {
			have[k] = text(v)
		}
		return l.Matches(have) && f.Matches(fields.Set{"metadata.name": text(meta(o)["name"])})
	}, nil
}

// watch tells of changes behind a revision.
func (s *server) watch(ctx context.Context, w http.ResponseWriter, r *http.Request, t target, wanted func(object) bool) {
	seconds, _ := strconv.Atoi(r.URL.Query().Get("timeoutSeconds"))
	ctx, cancel := context.WithTimeout(ctx, time.Duration(min(max(seconds, 1), 80))*time.Second)
	defer cancel()
	from, _ := strconv.ParseInt(r.URL.Query().Get("resourceVersion"), 10, 64)
	events := s.store.etcd.Watch(clientv3.WithRequireLeader(ctx), at(t.collection, ""), clientv3.WithPrefix(), clientv3.WithRev(from+1), clientv3.WithPrevKV())
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(http.StatusOK)
	flusher, _ := w.(http.Flusher)
	flusher.Flush()
	for told := range events {
		for _, e := range told.Events {
			kind, kv := "MODIFIED", e.Kv
			switch {
			case e.Type == clientv3.EventTypeDelete:
				kind, kv = "DELETED", e.PrevKv
			case e.IsCreate():
				kind = "ADDED"
			}
			if kv == nil {
				return // compacted: the client lists again
			}
			o, err := parsed(kv.Value, e.Kv.ModRevision)
			if err != nil {
				return
			}
			if !wanted(o) {
				continue
			}
			if json.NewEncoder(w).Encode(object{"type": kind, "object": o}) != nil {
				return
			}
		}
		flusher.Flush()
	}
}

func answer(w http.ResponseWriter, status int, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(body) // who asked has gone
}

// refuse answers an error as Kubernetes does.
func refuse(w http.ResponseWriter, err error) {
	var known apierrors.APIStatus
	if !errors.As(err, &known) {
		known = apierrors.NewInternalError(err)
	}
	status := known.Status()
	status.Kind, status.APIVersion = "Status", "v1"
	answer(w, int(status.Code), status)
}
