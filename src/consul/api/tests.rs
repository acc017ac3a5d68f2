//! Consul's JSON, written by hand after its releases, and the model in a short form.

use super::*;

#[track_caller]
fn check_instances(json: &str, expected: &[&str]) {
    let got: Vec<_> = instances(json.as_bytes()).unwrap().iter().map(render).collect();
    assert_eq!(got, expected, "json: {json}");
}

/// `shop-1 on alpha 10.0.0.1 at - port 8080 tags [blue] weights 1/1 passing`
fn render(instance: &Instance) -> String {
    let Instance { id, node, address, port, tags, weights, health, .. } = instance;
    let at = address.as_ref().map_or_else(|| "-".to_owned(), render_address);
    format!(
        "{id} on {} {} at {at} port {port} tags {tags:?} weights {}/{} {health:?}",
        node.name,
        render_address(&node.address),
        weights.passing,
        weights.warning,
    )
}

fn render_address(address: &Address) -> String {
    match address {
        Address::Host(name) => format!("host {name}"),
        Address::Ip(ip) => ip.to_string(),
    }
}

/// An entry of `/v1/health/service/:name` as a release about 2.0 sends it.
fn entry(node: &str, service: &str, checks: &str) -> String {
    format!(
        r#"{{"Node": {{"ID": "5b0e3f5a", "Node": "{node}", "Address": "10.0.0.1",
             "Datacenter": "east", "TaggedAddresses": null, "Meta": null, "CreateIndex": 14}},
            "Service": {{"Service": "shop", "Meta": {{"rev": "7"}}, "EnableTagOverride": false,
             "Proxy": {{"Mode": "", "MeshGateway": {{}}, "Expose": {{}}}}, "Connect": {{}},
             "PeerName": "", "AI": null, {service}}},
            "Checks": {checks}}}"#
    )
}

#[test]
fn instances_as_consul_sends_them() {
    let plain = r#""ID": "shop-1", "Tags": ["blue"], "Address": "", "Port": 8080,
                   "Weights": {"Passing": 1, "Warning": 1}"#;
    let external = r#""ID": "shop-2", "Tags": null, "Address": "db.example.com", "Port": 5432,
                      "Weights": {"Passing": 10, "Warning": 0}"#;
    let sparse = r#""ID": "shop-3""#;
    let json = format!(
        "[{},{},{}]",
        entry("beta", sparse, "null"),
        entry("alpha", external, "[]"),
        entry("alpha", plain, r#"[{"CheckID": "serfHealth", "Status": "passing"}]"#),
    );
    check_instances(
        &json,
        &[
            r#"shop-1 on alpha 10.0.0.1 at - port 8080 tags ["blue"] weights 1/1 Passing"#,
            r#"shop-2 on alpha 10.0.0.1 at host db.example.com port 5432 tags [] weights 10/0 Passing"#,
            r#"shop-3 on beta 10.0.0.1 at - port 0 tags [] weights 1/1 Passing"#,
        ],
    );
}

#[track_caller]
fn check_health(checks: &str, expected: &str) {
    let json = format!("[{}]", entry("alpha", r#""ID": "shop-1""#, checks));
    let got = instances(json.as_bytes()).unwrap();
    assert_eq!(format!("{:?}", got[0].health), expected, "checks: {checks}");
}

#[test]
fn health_is_that_of_the_worst_check() {
    let node = |status: &str| format!(r#"{{"ServiceID": "", "Status": "{status}"}}"#);
    let own = |status: &str| format!(r#"{{"ServiceID": "shop-1", "Status": "{status}"}}"#);
    for (one, other, expected) in [
        (node("passing"), own("passing"), "Passing"),
        (node("passing"), own("warning"), "Warning"),
        (node("warning"), own("passing"), "Warning"),
        (node("critical"), own("passing"), "Critical"),
        (node("passing"), own("critical"), "Critical"),
        // maintenance is a critical check; the word itself is a summary's
        (node("maintenance"), own("passing"), "Critical"),
        (node("passing"), own("resting"), "Unknown"),
        // a check that has no status yet
        (node("passing"), r#"{"ServiceID": "shop-1"}"#.to_owned(), "Critical"),
        (node("passing"), own(""), "Unknown"),
    ] {
        check_health(&format!("[{one},{other}]"), expected);
    }
    check_health("[]", "Passing");
    check_health("null", "Passing");
}

#[track_caller]
fn check_service(service: &str, expected: &str) {
    let json = format!("[{}]", entry("alpha", &format!(r#""ID": "s", {service}"#), "[]"));
    let got = instances(json.as_bytes()).unwrap();
    let Weights { passing, warning } = got[0].weights;
    let got = format!("port {} weights {passing}/{warning}", got[0].port);
    assert_eq!(got, expected, "service: {service}");
}

#[test]
fn ports_one_or_several() {
    let several = r#""Ports": [{"Name": "metrics", "Port": 9102, "Default": false},
                               {"Name": "http", "Port": 8080, "Default": true}]"#;
    let no_default = r#""Ports": [{"Name": "metrics", "Port": 9102, "Default": false},
                                  {"Name": "http", "Port": 8080, "Default": false}]"#;
    for (service, expected) in [
        (r#""Port": 8080"#.to_owned(), "port 8080 weights 1/1"),
        (r#""Port": 8443, "Ports": null"#.to_owned(), "port 8443 weights 1/1"),
        // `Port` absent or 0: the default of several, else the first
        (several.to_owned(), "port 8080 weights 1/1"),
        (format!(r#""Port": 0, {several}"#), "port 8080 weights 1/1"),
        (no_default.to_owned(), "port 9102 weights 1/1"),
        (format!(r#""Port": 7000, {several}"#), "port 7000 weights 1/1"),
        (r#""Ports": []"#.to_owned(), "port 0 weights 1/1"),
        // what is no port
        (r#""Port": 65536"#.to_owned(), "port 0 weights 1/1"),
        (r#""Port": -1"#.to_owned(), "port 0 weights 1/1"),
    ] {
        check_service(&service, expected);
    }
}

#[test]
fn weights_are_held_to_what_srv_can_say() {
    for (weights, expected) in [
        (r#"{"Passing": 65535, "Warning": 0}"#, "port 0 weights 65535/0"),
        (r#"{"Passing": 65536, "Warning": -5}"#, "port 0 weights 65535/0"),
        (
            r#"{"Passing": 99999999999999999999, "Warning": -99999999999999999999}"#,
            "port 0 weights 65535/0",
        ),
        (r#"{"Passing": 3}"#, "port 0 weights 3/1"),
        (r#"{"Passing": null, "Warning": 4}"#, "port 0 weights 1/4"),
        ("null", "port 0 weights 1/1"),
    ] {
        check_service(&format!(r#""Weights": {weights}"#), expected);
    }
}

#[test]
fn an_entry_that_cannot_be_is_left_out_alone() {
    let json = format!(
        r#"[{{"Node": null, "Service": {{"ID": "a"}}}},
            {{"Node": {{"Node": "n", "Address": ""}}, "Service": {{"ID": "b", "Address": "10.0.0.9"}}}},
            {{"Node": {{"Node": "n", "Address": "10.0.0.2"}}}},
            {}]"#,
        entry("alpha", r#""ID": "d""#, "[]"),
    );
    check_instances(&json, &["d on alpha 10.0.0.1 at - port 0 tags [] weights 1/1 Passing"]);
}

#[test]
fn null_is_an_empty_list() {
    assert_eq!(instances(b"null").unwrap(), []);
    assert_eq!(listing(b"null").unwrap(), []);
    assert_eq!(node_list(b"null").unwrap(), NodeList { datacenter: None, nodes: Vec::new() });
    assert_eq!(datacenter_names(b"null").unwrap(), Vec::<String>::new());
}

#[test]
fn what_is_not_all_of_the_json_is_an_error() {
    let whole = format!("[{}]", entry("alpha", r#""ID": "shop-1", "Port": 8080"#, "[]"));
    assert_eq!(instances(whole.as_bytes()).unwrap().len(), 1);
    for end in 0..whole.len() {
        assert!(instances(&whole.as_bytes()[..end]).is_err(), "cut after {end} bytes");
    }
    for body in ["", " ", "{}", "Your agent is unhappy", "[] []", r#"[{"Node": 7}]"#] {
        assert!(instances(body.as_bytes()).is_err(), "body: {body:?}");
    }
    for body in ["", "[]", r#"{"web": ["v1"#, r#"{"web": "v1"}"#] {
        assert!(listing(body.as_bytes()).is_err(), "body: {body:?}");
    }
}

#[test]
fn services_and_their_tags_come_sorted() {
    let json = br#"{"shop": ["green", "blue"], "consul": [], "Bank": null}"#;
    let got: Vec<_> = listing(json)
        .unwrap()
        .into_iter()
        .map(|(name, tags)| format!("{name} {}", tags.join(",")))
        .collect();
    assert_eq!(got, ["Bank ", "consul ", "shop blue,green"]);
}

#[test]
fn nodes_come_sorted_and_say_their_datacenter() {
    let json = br#"[
        {"ID": "2", "Node": "beta", "Address": "fd00::2", "Datacenter": "east", "Meta": null},
        {"ID": "3", "Node": "lost", "Address": "", "Datacenter": "east"},
        {"ID": "1", "Node": "alpha", "Address": "host.example.com", "Datacenter": "east"}]"#;
    let NodeList { datacenter, nodes } = node_list(json).unwrap();
    let got: Vec<_> = nodes
        .iter()
        .map(|node| format!("{} {}", node.name, render_address(&node.address)))
        .collect();
    assert_eq!(datacenter.as_deref(), Some("east"));
    assert_eq!(got, ["alpha host host.example.com", "beta fd00::2"]);
}

#[test]
fn datacenters_come_in_consuls_order() {
    assert_eq!(datacenter_names(br#"["west","east"]"#).unwrap(), ["west", "east"]);
}
