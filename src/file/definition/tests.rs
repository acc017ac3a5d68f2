//! What a catalogue file says, by table, and all that can be wrong with one.

use super::*;
use crate::catalog::change::Change;
use crate::catalog::form::Form;

/// The instances of a file in a short written form, in the order of the changes.
#[track_caller]
fn check(text: &str, expected: &[&str]) {
    let catalog = parse(text).unwrap_or_else(|errors| panic!("{text}: {errors}"));
    let got: Vec<String> = catalog.changes().iter().flat_map(render).collect();
    assert_eq!(got, expected, "file: {text}");
}

#[track_caller]
fn check_service(definition: &str, expected: &str) {
    let text = format!(
        r#"{{"nodes": [{{"name": "n1", "address": "10.0.0.1", "services": [{definition}]}}]}}"#
    );
    check(&text, &[expected]);
}

#[track_caller]
fn check_mistakes(text: &str, expected: &[&str]) {
    let errors = parse(text).expect_err(text);
    let got: Vec<String> = errors.mistakes().iter().map(ToString::to_string).collect();
    assert_eq!(got, expected, "file: {text}");
}

fn render(change: &Change) -> Vec<String> {
    let Change::Service { datacenter, form: Form::Service, service, instances, .. } = change else {
        return Vec::new();
    };
    let render = |instance: &Instance| {
        let Instance { id, node, address, port, tags, weights, health, .. } = instance;
        let node_address = written(&node.address);
        let address = address.as_ref().map_or_else(|| "-".to_owned(), written);
        let Weights { passing, warning } = weights;
        format!(
            "{service}.{datacenter} {id} on {}={node_address} at {address}:{port} {tags:?} \
             {passing}/{warning} {health:?}",
            node.name
        )
    };
    instances.iter().map(render).collect()
}

fn written(address: &Address) -> String {
    match address {
        Address::Host(host) => host.clone(),
        Address::Ip(ip) => ip.to_string(),
    }
}

#[test]
fn service_definitions_and_what_they_mean() {
    for (definition, expected) in [
        // only what must be there
        (r#"{"name": "web"}"#, "web.dc1 web on n1=10.0.0.1 at -:0 [] 1/1 Passing"),
        // all there is, as `consul services register` takes it
        (
            r#"{"id": "web-7", "name": "web", "tags": ["v1", "a.b"], "address": "10.9.0.7",
                "port": 8080, "weights": {"passing": 10, "warning": 3}, "meta": {"team": "shop"},
                "enable_tag_override": false, "check": {"id": "web-up", "status": "warning",
                "http": "http://10.9.0.7:8080/health", "interval": "10s"}}"#,
            r#"web.dc1 web-7 on n1=10.0.0.1 at 10.9.0.7:8080 ["v1", "a.b"] 10/3 Warning"#,
        ),
        // as the HTTP API spells it, and as the catalogue does
        (
            r#"{"ID": "x", "Name": "web", "Tags": null, "Port": 80, "EnableTagOverride": true}"#,
            "web.dc1 x on n1=10.0.0.1 at -:80 [] 1/1 Passing",
        ),
        (
            r#"{"ServiceID": "x", "ServiceName": "web", "ServicePort": 80, "ServiceAddress": ""}"#,
            "web.dc1 x on n1=10.0.0.1 at -:80 [] 1/1 Passing",
        ),
        // other addresses
        (
            r#"{"name": "web", "address": "fd00::7"}"#,
            "web.dc1 web on n1=10.0.0.1 at fd00::7:0 [] 1/1 Passing",
        ),
        (
            r#"{"name": "ext", "address": "www.example.com"}"#,
            "ext.dc1 ext on n1=10.0.0.1 at www.example.com:0 [] 1/1 Passing",
        ),
        // one weight alone
        (
            r#"{"name": "web", "weights": {"warning": 0}}"#,
            "web.dc1 web on n1=10.0.0.1 at -:0 [] 1/0 Passing",
        ),
        // the worst check counts; one without a status passes
        (
            r#"{"name": "web", "check": {"ttl": "10s"}}"#,
            "web.dc1 web on n1=10.0.0.1 at -:0 [] 1/1 Passing",
        ),
        (
            r#"{"name": "web", "check": {"status": "passing"},
                "checks": [{"Status": "critical"}, {"status": "warning"}]}"#,
            "web.dc1 web on n1=10.0.0.1 at -:0 [] 1/1 Critical",
        ),
    ] {
        check_service(definition, expected);
    }
}

/// The ports and other addresses of a service, and what it speaks for in the mesh.
#[track_caller]
fn check_mesh(definition: &str, expected: &str) {
    let text = format!(r#"{{"service": {{"name": "web", {definition}}}}}"#);
    let catalog = parse(&text).unwrap_or_else(|errors| panic!("{text}: {errors}"));
    let mut got = Vec::new();
    for change in catalog.changes() {
        let Change::Service { form, service, instances, .. } = change else { continue };
        let [instance] = &instances[..] else { panic!("one instance") };
        match form {
            Form::Service => {
                let Instance { port, ports, tagged, .. } = instance;
                let ports = ports.iter().map(|port| format!(" {}={}", port.name, port.port));
                got.push(format!("{port}{}", ports.collect::<String>()));
                let Some(tagged) = tagged else { continue };
                let Tagged { lan, lan_ipv4, lan_ipv6, wan, wan_ipv4, wan_ipv6, wan_port, mesh } =
                    &**tagged;
                let all = [lan, lan_ipv4, lan_ipv6, wan, wan_ipv4, wan_ipv6, mesh];
                let all =
                    all.map(|address| address.as_ref().map_or_else(|| "-".to_owned(), written));
                got.push(format!("{} {wan_port}", all.join(" ")));
            }
            _ => got.push(format!("{} {service}", form.as_str())),
        }
    }
    assert_eq!(got.join("; "), expected, "{definition}");
}

#[test]
fn ports_addresses_and_the_mesh() {
    for (definition, expected) in [
        (r#""ports": [{"name": "a", "port": 1}, {"name": "b", "port": 2}]"#, "1 a=1 b=2"),
        (
            r#""ports": [{"name": "a", "port": 1}, {"Name": "b", "Port": 2, "Default": true}]"#,
            "2 a=1 b=2",
        ),
        (r#""port": 3, "ports": [{"name": "a", "port": 1, "default": true}]"#, "3 a=1"),
        (
            r#""tagged_addresses": {"lan": {"address": "10.0.0.9"},
                "lan_ipv4": {"address": "10.0.0.1"}, "wan": {"Address": "192.0.2.1", "Port": 99},
                "wan_ipv6": {"address": "2001:db8::1", "port": 7}}"#,
            "0; 10.0.0.9 10.0.0.1 - 192.0.2.1 - 2001:db8::1 - 99",
        ),
        (
            r#""ServiceTaggedAddresses": {"consul-virtual": {"Address": "240.0.0.1"}}"#,
            "0; - - - - - - 240.0.0.1 0",
        ),
        (r#""tagged_addresses": {"lan": {"address": "10.0.0.9"}}"#, "0; 10.0.0.9 - - - - - - 0"),
        (
            r#""kind": "connect-proxy", "Proxy": {"DestinationServiceName": "db", "mode": ""}"#,
            "0; connect db",
        ),
        (r#""kind": "mesh-gateway", "proxy": {"destination_service_name": "db"}"#, "0"),
        (r#""connect": {"native": true}"#, "0; connect web"),
        // a sidecar that only a Consul would register
        (r#""connect": {"sidecar_service": {"port": 21000}}"#, "0"),
    ] {
        check_mesh(definition, expected);
    }
}

#[test]
fn nodes_have_metadata_and_other_addresses() {
    let text = r#"{"nodes": [{"name": "n1", "address": "10.0.0.1",
        "node_meta": {"rack": "r7", "Owner": "shop", "none": null},
        "TaggedAddresses": {"lan": "10.0.0.1", "lan_ipv6": "fd00::1", "wan": "192.0.2.1"}}]}"#;
    let changes = parse(text).unwrap().changes();
    let nodes = changes.into_iter().find_map(|change| match change {
        Change::Nodes { nodes, .. } => Some(nodes),
        _ => None,
    });
    let [node] = &nodes.unwrap()[..] else { panic!("one node") };
    let pairs = [("Owner", "shop"), ("rack", "r7")];
    assert_eq!(node.meta, pairs.map(|(key, value)| (key.to_owned(), value.to_owned())));
    let address = Address::from_text;
    let expected = Tagged {
        lan: address("10.0.0.1"),
        lan_ipv6: address("fd00::1"),
        wan: address("192.0.2.1"),
        ..Tagged::default()
    };
    assert_eq!(node.tagged.as_deref(), Some(&expected));
}

#[test]
fn services_outside_a_node_are_on_a_default_node() {
    check(
        r#"{"datacenter": "DC7", "service": {"name": "a"}, "services": [{"name": "b"}]}"#,
        &[
            "a.dc7 a on local=127.0.0.1 at -:0 [] 1/1 Passing",
            "b.dc7 b on local=127.0.0.1 at -:0 [] 1/1 Passing",
        ],
    );
    check(
        r#"{"node_name": "me", "advertise_addr": "10.0.0.9", "service": {"name": "a"}}"#,
        &["a.dc1 a on me=10.0.0.9 at -:0 [] 1/1 Passing"],
    );
    check("{}", &[]);
}

#[test]
fn checks_of_a_node_count_for_its_services() {
    check(
        r#"{"nodes": [
            {"node": "n1", "address": "10.0.0.1", "checks": [{"status": "warning"}],
                "services": [{"name": "a"}, {"name": "b", "check": {"status": "critical"}}]},
            {"Node": "n2", "Address": "10.0.0.2", "Datacenter": "dc2",
                "check": {"service_id": "b2", "status": "critical"},
                "services": [{"name": "a"}, {"name": "b", "id": "b2"}]}]}"#,
        &[
            "a.dc1 a on n1=10.0.0.1 at -:0 [] 1/1 Warning",
            "b.dc1 b on n1=10.0.0.1 at -:0 [] 1/1 Critical",
            "a.dc2 a on n2=10.0.0.2 at -:0 [] 1/1 Passing",
            "b.dc2 b2 on n2=10.0.0.2 at -:0 [] 1/1 Critical",
        ],
    );
}

#[test]
fn services_that_differ_only_in_case_are_one() {
    check(
        r#"{"services": [{"name": "Web", "port": 1}, {"name": "web", "port": 2}]}"#,
        &[
            "Web.dc1 Web on local=127.0.0.1 at -:1 [] 1/1 Passing",
            "Web.dc1 web on local=127.0.0.1 at -:2 [] 1/1 Passing",
        ],
    );
}

#[test]
fn mistakes_of_the_file_and_its_nodes_are_named_with_their_place() {
    for (text, expected) in [
        ("[]", "the file is a list; it must be an object"),
        ("{", "the file is not valid JSON: EOF while parsing an object at line 1 column 1"),
        (
            r#"{"colour": 1}"#,
            "colour is no key of a catalogue file, which has datacenter, nodes, services, \
             service, checks, check, node_name, advertise_addr",
        ),
        (
            r#"{"datacenter": "dc.1"}"#,
            "datacenter is \"dc.1\"; it must be at most 63 letters, digits, hyphens and \
             underscores",
        ),
        (r#"{"nodes": {}}"#, "nodes is an object; it must be a list"),
        (
            r#"{"nodes": [{"address": "10.0.0.1"}]}"#,
            "nodes[0].name is missing; it must be the node's name",
        ),
        (
            r#"{"nodes": [{"name": "n1"}]}"#,
            "nodes[0].address is missing; it must be an IP address other than 0.0.0.0 and ::, \
             or a hostname, without a port",
        ),
        (
            r#"{"nodes": [{"name": "n1", "address": ""}]}"#,
            "nodes[0].address is \"\"; it must be an IP address other than 0.0.0.0 and ::, \
             or a hostname, without a port",
        ),
        (
            r#"{"nodes": [{"name": "n1", "address": "10.0.0.1"},
                          {"name": "N1", "address": "10.0.0.2"}]}"#,
            r#"nodes[1].name is "N1", the name of nodes[0].name too"#,
        ),
    ] {
        check_mistakes(text, &[expected]);
    }
}

#[test]
fn mistakes_of_services_are_named_with_their_place() {
    for (text, expected) in [
        (
            r#"{"service": {"name": "web", "address": "10.0.0.1:80"}}"#,
            "service.address is \"10.0.0.1:80\"; it must be an IP address other than 0.0.0.0 \
             and ::, or a hostname, without a port",
        ),
        (
            r#"{"service": {"name": "web", "address": "::"}}"#,
            "service.address is \"::\"; it must be an IP address other than 0.0.0.0 \
             and ::, or a hostname, without a port",
        ),
        (r#"{"service": {}}"#, "service.name is missing; it must be the service's name"),
        (
            r#"{"service": {"name": "web", "port": 70000}}"#,
            "service.port is 70000; it must be a whole number between 0 and 65535",
        ),
        (
            r#"{"service": {"name": "web", "Port": "80"}}"#,
            "service.Port is \"80\"; it must be a whole number between 0 and 65535",
        ),
        (
            r#"{"service": {"name": "web", "weights": {"passing": 0}}}"#,
            "service.weights.passing is 0; it must be a whole number between 1 and 65535",
        ),
        (
            r#"{"service": {"name": "web", "weights": {"warning": -1}}}"#,
            "service.weights.warning is -1; it must be a whole number between 0 and 65535",
        ),
        (
            r#"{"service": {"name": "web", "tags": ["v1", 2]}}"#,
            "service.tags[1] is 2; it must be a string",
        ),
        (
            r#"{"service": {"name": "web", "check": {"status": "green"}}}"#,
            r#"service.check.status is "green"; it must be "passing", "warning" or "critical""#,
        ),
        (
            r#"{"service": {"name": "web"}, "check": {"service_id": "db"}}"#,
            r#"check.service_id is "db", but the node has no service of that ID"#,
        ),
        (
            r#"{"service": {"name": "web", "Name": "db"}}"#,
            "service.Name is given twice, here and as name",
        ),
        (
            r#"{"services": [{"name": "web"}, {"name": "db", "id": "web"}]}"#,
            r#"services[1].id is "web", the ID of services[0] on the same node too"#,
        ),
    ] {
        check_mistakes(text, &[expected]);
    }
}

#[test]
fn mistakes_of_the_mesh_are_named_with_their_place() {
    for (text, expected) in [
        (
            r#"{"service": {"name": "web", "kind": "connect-proxi"}}"#,
            "service.kind is \"connect-proxi\"; it must be a kind of service that Consul has, such \
             as \"connect-proxy\"",
        ),
        (
            r#"{"service": {"name": "p", "kind": "connect-proxy"}}"#,
            "service.proxy.destination_service_name is missing; it must be the name of the service \
             that the proxy is for",
        ),
        (
            r#"{"service": {"name": "web", "connect": {"native": "yes"}}}"#,
            "service.connect.native is \"yes\"; it must be true or false",
        ),
        (
            r#"{"service": {"name": "web", "tagged_addresses": {"wan": "192.0.2.1"}}}"#,
            "service.tagged_addresses.wan is \"192.0.2.1\"; it must be an object",
        ),
        (
            r#"{"service": {"name": "web", "ports": [{"port": 80}]}}"#,
            "service.ports[0].name is missing; it must be the port's name",
        ),
        (
            r#"{"service": {"name": "web", "ports": [{"name": "A b", "port": 80}]}}"#,
            "service.ports[0].name is \"A b\"; it must be letters, digits, hyphens and underscores, \
             63 at most between dots",
        ),
        (
            r#"{"service": {"name": "web", "ports": [
                {"name": "http", "port": 80}, {"name": "HTTP", "port": 81}]}}"#,
            r#"service.ports[1].name is "HTTP", the name of service.ports[0].name too"#,
        ),
        (
            r#"{"service": {"name": "web", "ports": [
                {"name": "a", "port": 80, "default": true}, {"name": "b", "port": 81},
                {"name": "c", "port": 82, "default": true}]}}"#,
            "service.ports[2].default is true, as service.ports[0].default is; one port can be the \
             default",
        ),
    ] {
        check_mistakes(text, &[expected]);
    }
}

#[test]
fn all_mistakes_are_found_in_one_run() {
    check_mistakes(
        r#"{"nodes": [
            {"name": "", "address": "10.0.0.300", "services": [{"port": 80.5}, 7]},
            {"name": "", "address": "10.0.0.2", "checks": [{"status": 1}]}]}"#,
        &[
            "nodes[0].name is \"\"; it must be the node's name",
            "nodes[0].address is \"10.0.0.300\"; it must be an IP address other than 0.0.0.0 \
             and ::, or a hostname, without a port",
            "nodes[0].services[0].name is missing; it must be the service's name",
            "nodes[0].services[0].port is 80.5; it must be a whole number between 0 and 65535",
            "nodes[0].services[1] is 7; it must be an object",
            "nodes[1].name is \"\"; it must be the node's name",
            "nodes[1].checks[0].status is 1; it must be \"passing\", \"warning\" or \"critical\"",
        ],
    );
}
