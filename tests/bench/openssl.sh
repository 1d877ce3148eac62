# Makes the keys, certificates and kubeconfigs of a node with openssl, sed and
# the like, as many as mk makes: with as many programs as MicroK8s' scripts
# start (its produce_certs 59, its create_user_certs_and_configs 160, and
# init_cluster), and with keys as they have them. What they do not make, and mk
# does, is made here as the others are. Prints how many it started. $1 is a
# folder to work in.
set -euo pipefail
n=0
run() { n=$((n + 1)); "$@"; }
mkdir -p "$1" && cd "$1"
run openssl version >/dev/null

# -- the authorities, the API server's pair and the front proxy's
for key in serviceaccount ca server front-proxy-ca front-proxy-client datastore-ca; do
	run openssl genrsa -out $key.key 2048 2>/dev/null
done
for ca in ca front-proxy-ca datastore-ca; do
	run openssl req -x509 -new -sha256 -nodes -days 3650 -key $ca.key -subj /CN=$ca -out $ca.crt
done
cat >csr.conf.template <<'CONF'
[ req ]
default_bits = 2048
prompt = no
default_md = sha256
req_extensions = req_ext
distinguished_name = dn
[ dn ]
CN = 127.0.0.1
[ req_ext ]
subjectAltName = @alt_names
[ alt_names ]
DNS.1 = kubernetes
DNS.2 = kubernetes.default
DNS.3 = kubernetes.default.svc
DNS.4 = kubernetes.default.svc.cluster
DNS.5 = kubernetes.default.svc.cluster.local
IP.1 = 127.0.0.1
IP.2 = 10.152.183.1
#MOREIPS
[ v3_ext ]
authorityKeyIdentifier=keyid,issuer:always
basicConstraints=CA:FALSE
keyUsage=keyEncipherment,dataEncipherment,digitalSignature
extendedKeyUsage=serverAuth,clientAuth
subjectAltName=@alt_names
CONF
run cp csr.conf.template csr.conf.rendered
for ip in 3:10.77.1.2 4:10.77.1.3; do
	run sed -i "s/#MOREIPS/IP.${ip%%:*} = ${ip#*:}\n#MOREIPS/" csr.conf.rendered
	run grep -q "${ip#*:}" csr.conf.rendered
done
run sed -i /MOREIPS/d csr.conf.rendered
run cp csr.conf.rendered csr.conf
pair() { # NAME CA SUBJECT: a request and a certificate with the server's names
	run openssl req -new -sha256 -key $1.key -subj $3 -out $1.csr -config csr.conf
	run openssl x509 -req -sha256 -in $1.csr -CA $2.crt -CAkey $2.key -CAcreateserial -out $1.crt -days 365 -extensions v3_ext -extfile csr.conf 2>/dev/null
	run openssl x509 -noout -issuer -in $1.crt >/dev/null
}
pair server ca /CN=127.0.0.1
pair front-proxy-client front-proxy-ca /CN=front-proxy-client
# The rest of the 59 looks at what is there: names, addresses, modes, owners.
while ((n < 59)); do run stat -c %a csr.conf >/dev/null; done

# -- nine users, seven kubeconfigs; six and five of them are MicroK8s' own
upTo=$((n + 160))
user() { # NAME SUBJECT [CA]
	run openssl genrsa -out $1.key 2048 2>/dev/null
	run openssl req -new -sha256 -key $1.key -subj "$2" -out $1.csr
	names=$(openssl req -in $1.csr -noout -text | grep -A1 'Subject Alternative Name' || true); n=$((n + 2))
	run openssl x509 -req -sha256 -in $1.csr -CA ${3:-ca}.crt -CAkey ${3:-ca}.key -CAcreateserial -out $1.crt -days 3650 2>/dev/null
	run chmod 600 $1.key
}
user kubelet /CN=system:node:bench/O=system:nodes
user client /CN=admin/O=system:masters
user proxy /CN=system:kube-proxy
user scheduler /CN=system:kube-scheduler
user controller /CN=system:kube-controller-manager
user apiserver-kubelet-client /CN=kube-apiserver-kubelet-client/O=system:masters
user node-agent /CN=mk:node:bench
user flanneld /CN=mk:flanneld:bench
user apiserver-etcd-client /CN=kube-apiserver-etcd-client datastore-ca
printf 'clusters:\n- cluster: {certificate-authority-data: CADATA, server: https://127.0.0.1:16443}\nusers:\n- name: NAME\n  user: {client-certificate-data: CERT, client-key-data: KEY}\n' >client.config.template
for name in client controller scheduler kubelet proxy node-agent flanneld; do
	ca=$(base64 -w0 <ca.crt) cert=$(base64 -w0 <$name.crt) key=$(base64 -w0 <$name.key); n=$((n + 3))
	run cp client.config.template $name.config
	run sed -i "s@CADATA@$ca@" $name.config
	run sed -i "s@NAME@$name@" $name.config
	run sed -i "s@CERT@$cert@" $name.config
	run sed -i "s@KEY@$key@" $name.config
	run chmod 600 $name.config
done
while ((n < upTo)); do run stat -c %a client.config >/dev/null; done

# -- the datastore's pair
run sed 's/127.0.0.1/k8s/' csr.conf >csr-datastore.conf
run openssl req -x509 -newkey rsa:4096 -sha256 -days 3650 -nodes -keyout cluster.key -out cluster.crt -subj /CN=k8s 2>/dev/null
run chmod -R o-rwX .
echo "$n programs"
