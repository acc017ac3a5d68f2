//! The keys of each kind of object in a catalogue file: those that are read, and those of Consul's
//! that have no bearing on DNS.

use crate::file::fields::Shape;

/// The top of the file.
pub const FILE: Shape = Shape {
    noun: "a catalogue file",
    read: &[
        &["datacenter"],
        &["nodes"],
        &["services"],
        &["service"],
        &["checks"],
        &["check"],
        &["node_name"],
        &["advertise_addr"],
    ],
    ignored: &[],
};

/// A node.
pub const NODE: Shape = Shape {
    noun: "a node",
    read: &[
        &["name", "node", "node_name"],
        &["address"],
        &["datacenter"],
        &["services"],
        &["service"],
        &["checks"],
        &["check"],
        &["meta", "node_meta"],
        &["tagged_addresses"],
    ],
    ignored: &["id", "partition"],
};

/// A service on a node.
pub const SERVICE: Shape = Shape {
    noun: "a service",
    read: &[
        &["name", "service", "service_name"],
        &["id", "service_id"],
        &["tags", "service_tags"],
        &["address", "service_address"],
        &["port", "service_port"],
        &["weights", "service_weights"],
        &["checks"],
        &["check"],
        &["kind"],
        &["proxy", "service_proxy"],
        &["connect", "service_connect"],
        &["ports", "service_ports"],
        &["tagged_addresses", "service_tagged_addresses"],
    ],
    ignored: &[
        "create_index",
        "enable_tag_override",
        "locality",
        "meta",
        "modify_index",
        "namespace",
        "partition",
        "service_enable_tag_override",
        "service_meta",
        "socket_path",
        "token",
    ],
};

/// The weights of a service.
pub const WEIGHTS: Shape =
    Shape { noun: "weights", read: &[&["passing"], &["warning"]], ignored: &[] };

/// One of several ports of a service.
pub const PORT: Shape =
    Shape { noun: "a port", read: &[&["name"], &["port"], &["default"]], ignored: &[] };

/// An address of a service that has a tag.
pub const TAGGED_ADDRESS: Shape =
    Shape { noun: "a tagged address", read: &[&["address"], &["port"]], ignored: &[] };

/// What a proxy is for.
pub const PROXY: Shape = Shape {
    noun: "a proxy",
    read: &[&["destination_service_name"]],
    ignored: &[
        "access_logs",
        "config",
        "destination_service_id",
        "envoy_extensions",
        "expose",
        "local_service_address",
        "local_service_port",
        "local_service_socket_path",
        "mesh_gateway",
        "mode",
        "mutual_tls_mode",
        "transparent_proxy",
        "upstreams",
    ],
};

/// How a service is in the mesh.
pub const CONNECT: Shape = Shape {
    noun: "a service's connect",
    read: &[&["native"]],
    ignored: &["peer_meta", "sidecar_service"],
};

/// A check of a node or a service.
pub const CHECK: Shape = Shape {
    noun: "a check",
    read: &[&["id", "check_id"], &["name"], &["status"], &["service_id"]],
    ignored: &[
        "alias_node",
        "alias_service",
        "args",
        "body",
        "create_index",
        "definition",
        "deregister_critical_service_after",
        "disable_redirects",
        "docker_container_id",
        "failures_before_critical",
        "failures_before_warning",
        "grpc",
        "grpc_use_tls",
        "h2ping",
        "h2ping_use_tls",
        "header",
        "http",
        "interval",
        "method",
        "modify_index",
        "namespace",
        "node",
        "notes",
        "os_service",
        "output",
        "output_max_size",
        "partition",
        "script",
        "script_args",
        "service_name",
        "service_tags",
        "shell",
        "success_before_passing",
        "tcp",
        "tcp_use_tls",
        "timeout",
        "tls_server_name",
        "tls_skip_verify",
        "token",
        "ttl",
        "type",
        "udp",
    ],
};
