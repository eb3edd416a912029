# Envoy in front of the servers, rendered by templates/envoy-config.yaml.
# Envoy needs a name to read certificates from files.
node: {id: envoy, cluster: pixelserve}
admin:
  address: {socket_address: {address: 127.0.0.1, port_value: 9901}}
overload_manager:
  resource_monitors:
    - name: envoy.resource_monitors.global_downstream_max_connections
      typed_config:
        "@type": type.googleapis.com/envoy.extensions.resource_monitors.downstream_connections.v3.DownstreamConnectionsConfig
        max_active_downstream_connections: 10000
static_resources:
  listeners:
    - name: grpc
      address: {socket_address: {address: {{ .Values.server.host | quote }}, port_value: 8001}}
      filter_chains:
        {{- if .Values.tls.existingSecret }}
        - transport_socket:
            name: envoy.transport_sockets.tls
            typed_config:
              "@type": type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext
              common_tls_context:
                alpn_protocols: [h2, http/1.1]
                tls_certificate_sds_secret_configs:
                  - {name: certificate, sds_config: {path_config_source: {path: /etc/envoy/certificate.yaml}}}
          filters:
        {{- else }}
        - filters:
        {{- end }}
            - name: envoy.filters.network.http_connection_manager
              typed_config:
                "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
                stat_prefix: pixelserve
                codec_type: AUTO
                # Streams may pause for longer than Envoy's five minutes.
                stream_idle_timeout: 0s
                http2_protocol_options: {max_concurrent_streams: 1024}
                {{- with .Values.server.maxConnectionAgeSeconds }}
                # As the servers do: connections spread over the Envoys too.
                common_http_protocol_options: {max_connection_duration: {{ . }}s}
                drain_timeout: {{ $.Values.server.graceSeconds }}s
                {{- end }}
                route_config:
                  virtual_hosts:
                    - name: pixelserve
                      domains: ["*"]
                      routes:
                        - match: {prefix: "/"}
                          route:
                            {{- if .Values.canary.enabled }}
                            weighted_clusters:
                              clusters:
                                - {name: stable, weight: {{ sub 100 .Values.canary.weight }}}
                                - {name: canary, weight: {{ .Values.canary.weight }}}
                            {{- else }}
                            cluster: stable
                            {{- end }}
                            # The caller's deadline bounds a call; Envoy's own 15 s would cut streams off.
                            timeout: 0s
                            max_stream_duration: {grpc_timeout_header_max: 0s}
                            retry_policy:
                              # Inference changes nothing, so a call that a dead server had may run again elsewhere.
                              retry_on: unavailable,connect-failure,refused-stream,reset
                              num_retries: 2
                              retry_back_off: {base_interval: 0.025s, max_interval: 0.25s}
                              host_selection_retry_max_attempts: 3
                              retry_host_predicate:
                                - name: envoy.retry_host_predicates.previous_hosts
                                  typed_config:
                                    "@type": type.googleapis.com/envoy.extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate
                http_filters:
                  - name: envoy.filters.http.router
                    typed_config:
                      "@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router
    # Metrics and readiness for other pods; all else that the admin port can do stays on loopback.
    - name: metrics
      address: {socket_address: {address: {{ .Values.server.host | quote }}, port_value: 9902}}
      filter_chains:
        - filters:
            - name: envoy.filters.network.http_connection_manager
              typed_config:
                "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
                stat_prefix: metrics
                route_config:
                  virtual_hosts:
                    - name: metrics
                      domains: ["*"]
                      routes:
                        - {match: {path: /stats/prometheus}, route: {cluster: admin}}
                        - {match: {path: /ready}, route: {cluster: admin}}
                http_filters:
                  - name: envoy.filters.http.router
                    typed_config:
                      "@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router
  clusters:
    - name: admin
      type: STATIC
      load_assignment:
        cluster_name: admin
        endpoints:
          - lb_endpoints:
              - endpoint: {address: {socket_address: {address: 127.0.0.1, port_value: 9901}}}
    {{- range $track := .Values.canary.enabled | ternary (list "stable" "canary") (list "stable") }}
    - name: {{ $track }}
      # Looks up the pods every 5 s, which is within the servers' settle time.
      type: STRICT_DNS
      connect_timeout: 1s
      # Each call goes to the less busy of two servers.
      lb_policy: LEAST_REQUEST
      # With all servers unhealthy, calls fail at once instead of reaching servers that cannot answer.
      common_lb_config: {healthy_panic_threshold: {value: 0}}
      health_checks:
        - timeout: 1s
          interval: 1s
          unhealthy_threshold: 2
          healthy_threshold: 1
          no_traffic_interval: 1s
          grpc_health_check: {}
      outlier_detection:
        # Only what happens to connections counts. Statuses do not: a wrong request or an overload is not a bad server,
        # and Envoy takes DEADLINE_EXCEEDED and INTERNAL for 5xx.
        split_external_local_origin_errors: true
        consecutive_local_origin_failure: 5
        enforcing_consecutive_local_origin_failure: 100
        enforcing_consecutive_5xx: 0
        enforcing_consecutive_gateway_failure: 0
        enforcing_success_rate: 0
        enforcing_local_origin_success_rate: 0
        base_ejection_time: 5s
        max_ejection_percent: 50
      circuit_breakers:
        # The servers bound their queues and refuse early; Envoy's 1,024 would refuse before them.
        thresholds:
          - max_connections: 10000
            max_pending_requests: 10000
            max_requests: 10000
            # All calls of a server that died are retried at once; with 20 % and 10, `make drill` lost one of twelve.
            retry_budget: {budget_percent: {value: 50}, min_retry_concurrency: 100}
      typed_extension_protocol_options:
        envoy.extensions.upstreams.http.v3.HttpProtocolOptions:
          "@type": type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions
          explicit_http_config:
            http2_protocol_options:
              # A server that stopped answering would hold its calls until their deadlines; closed, they run elsewhere.
              connection_keepalive: {interval: 2s, timeout: 2s}
      {{- if $.Values.tls.existingSecret }}
      transport_socket:
        name: envoy.transport_sockets.tls
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext
          sni: {{ include "pixelserve.serverName" $ }}
          common_tls_context:
            alpn_protocols: [h2]
            combined_validation_context:
              default_validation_context:
                match_typed_subject_alt_names: [{san_type: DNS, matcher: {exact: {{ include "pixelserve.serverName" $ }}}}]
              validation_context_sds_secret_config:
                {name: ca, sds_config: {path_config_source: {path: /etc/envoy/ca.yaml}}}
      {{- end }}
      load_assignment:
        cluster_name: {{ $track }}
        endpoints:
          - lb_endpoints:
              - endpoint: {address: {socket_address: {address: {{ include "pixelserve.headlessHost" (dict "root" $ "track" $track) }}, port_value: 8001}}}
    {{- end }}
