package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/uuid"
)

// object is one as JSON has it.
type object = map[string]any

// prefix is where objects are kept: prefix, path of the collection, #, name.
const prefix = "/standin"

// store keeps objects in etcd; their versions are etcd's revisions.
type store struct{ etcd *clientv3.Client }

func openStore(endpoints, ca, cert, key string) (*store, error) {
	pair, err := tls.LoadX509KeyPair(cert, key)
	if err != nil {
		return nil, err
	}
	bundle, err := os.ReadFile(ca)
	if err != nil {
		return nil, err
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(bundle)
	etcd, err := clientv3.New(clientv3.Config{
		Endpoints: strings.Split(endpoints, ","), TLS: &tls.Config{Certificates: []tls.Certificate{pair}, RootCAs: roots, MinVersion: tls.VersionTLS13},
		Logger: zap.NewNop(), DialTimeout: 2 * time.Second,
	})
	return &store{etcd}, err
}

// renews writes every second, as Kubernetes does that renews its leases. A
// member that joins etcd with more than 5000 entries in its log takes nothing
// until another entry follows the snapshot that it got.
func (s *store) renews(ctx context.Context) {
	for t := time.NewTicker(time.Second); ; {
		select {
		case now := <-t.C:
			once, cancel := context.WithTimeout(ctx, time.Second)
			_, _ = s.etcd.Put(once, "/lease", now.String()) // a datastore without a leader is for the test to see
			cancel()
		case <-ctx.Done():
			t.Stop()
			return
		}
	}
}

func at(collection, name string) string { return prefix + collection + "#" + name }

func meta(o object) object {
	m, ok := o["metadata"].(object)
	if !ok {
		m = object{}
		o["metadata"] = m
	}
	return m
}

func text(v any) string {
	s, _ := v.(string)
	return s
}

// parsed is a stored object with its version.
func parsed(data []byte, revision int64) (object, error) {
	o := object{}
	if err := json.Unmarshal(data, &o); err != nil {
		return nil, err
	}
	meta(o)["resourceVersion"] = strconv.FormatInt(revision, 10)
	return o, nil
}

func resourceOf(collection string) schema.GroupResource {
	return schema.GroupResource{Resource: collection[strings.LastIndexByte(collection, '/')+1:]}
}

func (s *store) get(ctx context.Context, collection, name string) (object, error) {
	r, err := s.etcd.Get(ctx, at(collection, name))
	if err != nil {
		return nil, err
	}
	if len(r.Kvs) == 0 {
		return nil, apierrors.NewNotFound(resourceOf(collection), name)
	}
	return parsed(r.Kvs[0].Value, r.Kvs[0].ModRevision)
}

func (s *store) list(ctx context.Context, collection string) ([]object, int64, error) {
	r, err := s.etcd.Get(ctx, at(collection, ""), clientv3.WithPrefix())
	if err != nil {
		return nil, 0, err
	}
	out := []object{}
	for _, kv := range r.Kvs {
		o, err := parsed(kv.Value, kv.ModRevision)
		if err != nil {
			return nil, 0, err
		}
		out = append(out, o)
	}
	return out, r.Header.Revision, nil
}

// put writes an object over the revision that it replaces; 0 is none.
func (s *store) put(ctx context.Context, collection string, o object, over int64) (object, error) {
	m := meta(o)
	name := text(m["name"])
	if over == 0 {
		m["uid"], m["creationTimestamp"] = string(uuid.NewUUID()), time.Now().UTC().Format(time.RFC3339)
	}
	delete(m, "resourceVersion")
	data, err := json.Marshal(o)
	if err != nil {
		return nil, err
	}
	key := at(collection, name)
	// As an API server does, it does not write what is there.
	r, err := s.etcd.Txn(ctx).If(clientv3.Compare(clientv3.ModRevision(key), "=", over), clientv3.Compare(clientv3.Value(key), "=", string(data))).Commit()
	if err != nil {
		return nil, err
	}
	if over != 0 && r.Succeeded {
		return parsed(data, over)
	}
	r, err = s.etcd.Txn(ctx).If(clientv3.Compare(clientv3.ModRevision(key), "=", over)).Then(clientv3.OpPut(key, string(data))).Commit()
	switch {
	case err != nil:
		return nil, err
	case !r.Succeeded && over == 0:
		return nil, apierrors.NewAlreadyExists(resourceOf(collection), name)
	case !r.Succeeded:
		return nil, apierrors.NewConflict(resourceOf(collection), name, errors.New("the object has been modified"))
	}
	return parsed(data, r.Header.Revision)
}

// delete removes an object that still has a version; an empty one is any.
func (s *store) delete(ctx context.Context, collection, name, version string) (object, error) {
	o, err := s.get(ctx, collection, name)
	if err != nil {
		return nil, err
	}
	have := text(meta(o)["resourceVersion"])
	changed := apierrors.NewConflict(resourceOf(collection), name, errors.New("the object has been modified"))
	if version != "" && version != have {
		return nil, changed
	}
	revision, err := strconv.ParseInt(have, 10, 64)
	if err != nil {
		return nil, err
	}
	key := at(collection, name)
	r, err := s.etcd.Txn(ctx).If(clientv3.Compare(clientv3.ModRevision(key), "=", revision)).Then(clientv3.OpDelete(key)).Commit()
	if err == nil && !r.Succeeded {
		err = changed
	}
	return o, err
}

// objects prints the keys and values of all that is stored, as one document.
func objects(ctx context.Context, root string) error {
	certs := filepath.Join(root, "certs")
	s, err := openStore("https://127.0.0.1:12379", filepath.Join(certs, "datastore-ca.crt"),
		filepath.Join(certs, "apiserver-etcd-client.crt"), filepath.Join(certs, "apiserver-etcd-client.key"))
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	r, err := s.etcd.Get(ctx, prefix, clientv3.WithPrefix())
	if err != nil {
		return err
	}
	out := map[string]json.RawMessage{}
	for _, kv := range r.Kvs {
		out[strings.TrimPrefix(string(kv.Key), prefix)] = kv.Value
	}
	data, err := json.Marshal(out)
	if err != nil {
		return err
	}
	_, err = fmt.Println(string(data))
	return err
}
