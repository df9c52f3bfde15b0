"""What OpenSIPS 3.1's modules add to the language, by module: functions and variables.

Lets the checker say "add loadmodule" for a name whose module is not loaded, and keeps it silent about names that come
from a module which is not supported here (one error for the module is enough).
"""

from __future__ import annotations

FUNCTIONS: dict[str, str] = {
    "aaa_diameter": "",
    "aaa_radius": "radius_send_acct radius_send_auth",
    "acc": (
        "acc_aaa_request acc_db_request acc_evi_request acc_load_ctx_from_dlg acc_log_request acc_new_leg "
        "acc_unload_ctx_from_dlg do_accounting drop_accounting"
    ),
    "alias_db": "alias_db_find alias_db_lookup",
    "auth": (
        "append_rpid_hf consume_credentials is_rpid_user_e164 proxy_challenge pv_proxy_authorize pv_www_authorize www_challenge"
    ),
    "auth_aaa": "aaa_proxy_authorize aaa_www_authorize",
    "auth_aka": "",
    "auth_db": "db_does_uri_exist db_get_auth_id db_is_from_authorized db_is_to_authorized proxy_authorize www_authorize",
    "avpops": (
        "avp_check avp_copy avp_db_delete avp_db_load avp_db_query avp_db_store avp_delete avp_op avp_print avp_pushto "
        "avp_subst is_avp_set"
    ),
    "b2b_entities": "",
    "b2b_logic": "b2b_client_new b2b_init_request b2b_server_new",
    "b2b_sca": "",
    "b2b_sdp_demux": "",
    "benchmark": "bm_log_timer bm_start_timer",
    "cachedb_cassandra": "",
    "cachedb_couchbase": "",
    "cachedb_local": "cache_remove_chunk",
    "cachedb_memcached": "",
    "cachedb_mongodb": "",
    "cachedb_redis": "",
    "cachedb_sql": "",
    "call_center": "cc_handle_call",
    "call_control": "call_control",
    "callops": "",
    "carrierroute": "",
    "cfgutils": (
        "abort check_time_rec get_accurate_time get_dynamic_lock get_static_lock pkg_status rand_event rand_get_prob "
        "rand_reset_prob rand_set_prob release_dynamic_lock release_static_lock set_count set_select_weight shm_status "
        "sleep strings_share_lock ts_usec_delta usleep"
    ),
    "cgrates": "cgrates_acc cgrates_auth cgrates_cmd",
    "closeddial": "",
    "clusterer": "",
    "compression": "mc_compact mc_compress mc_decompress",
    "cpl_c": "",
    "db_berkeley": "",
    "db_cachedb": "",
    "db_flatstore": "",
    "db_http": "",
    "db_mysql": "",
    "db_oracle": "",
    "db_perlvdb": "",
    "db_postgres": "",
    "db_sqlite": "",
    "db_text": "",
    "db_unixodbc": "",
    "db_virtual": "",
    "dialog": (
        "create_dialog dlg_on_answer dlg_on_hangup dlg_on_timeout dlg_send_sequential fetch_dlg_value fix_route_dialog "
        "get_dialog_info get_dialog_vals get_dialogs_by_profile get_dialogs_by_val get_profile_size is_dlg_flag_set "
        "is_in_profile load_dialog_ctx match_dialog reset_dlg_flag set_dlg_flag set_dlg_profile set_dlg_sharing_tag "
        "store_dlg_value test_and_set_dlg_flag unload_dialog_ctx unset_dlg_profile validate_dialog"
    ),
    "dialplan": "dp_translate",
    "dispatcher": (
        "ds_count ds_get_script_attrs ds_is_in_list ds_mark_dst ds_next_domain ds_next_dst ds_push_script_attrs "
        "ds_select_domain ds_select_dst"
    ),
    "diversion": "add_diversion",
    "dns_cache": "",
    "domain": "is_domain_local is_from_local is_uri_host_local",
    "domainpolicy": "",
    "drouting": "do_routing dr_disable dr_is_gw dr_match goes_to_gw is_from_gw route_to_carrier route_to_gw use_next_gw",
    "emergency": "emergency_call failure",
    "enum": "enum_query is_from_user_enum isn_query",
    "event_datagram": "",
    "event_flatstore": "",
    "event_rabbitmq": "",
    "event_rabbitmq_consumer": "",
    "event_route": "",
    "event_routing": "notify_on_event wait_for_event",
    "event_stream": "",
    "event_virtual": "",
    "event_xmlrpc": "",
    "exec": "exec",
    "fraud_detection": "check_fraud",
    "freeswitch": "",
    "freeswitch_scripting": "",
    "gflags": "is_gflag reset_gflag set_gflag",
    "group": "aaa_is_user_in db_get_user_group db_is_user_in get_user_group is_user_in",
    "h350": "",
    "httpd": "",
    "identity": "",
    "imc": "imc_manager",
    "jabber": "",
    "json": "json_link",
    "jsonrpc": "jsonrpc_notification jsonrpc_request",
    "ldap": "ldap_filter_url_encode ldap_result ldap_result_check ldap_result_next ldap_search",
    "load_balancer": (
        "lb_count_call lb_disable_dst lb_is_destination lb_is_started lb_next lb_reset lb_start lb_start_or_next load_balance"
    ),
    "lua": "lua_exec lua_meminfo",
    "mangler": "",
    "mathops": "math_ceil math_compare math_eval math_floor math_round math_round_sf math_rpn math_trunc",
    "maxfwd": "is_maxfwd_lt mf_process_maxfwd_header",
    "media_exchange": "media_exchange_from_uri media_fork_to_uri",
    "mi_datagram": "",
    "mi_fifo": "",
    "mi_html": "",
    "mi_http": "",
    "mi_xmlrpc_ng": "",
    "mid_registrar": "mid_registrar_lookup mid_registrar_save pn_process_purr",
    "mmgeoip": "mmg_lookup",
    "msilo": "m_dump m_store",
    "nat_traversal": "client_nat_test nat_keepalive",
    "nathelper": "add_rcv_param fix_nated_contact fix_nated_register fix_nated_sdp nat_uac_test",
    "options": "options_reply",
    "osp": "",
    "path": "add_path add_path_received",
    "peering": "",
    "perl": "perl_exec perl_exec_simple",
    "perlvdb": "",
    "permissions": "allow_register allow_routing allow_uri check_address check_source_address get_source_group",
    "pi_http": "",
    "pike": "pike_check_req",
    "presence": "handle_publish handle_subscribe",
    "presence_callinfo": "",
    "presence_dialoginfo": "",
    "presence_mwi": "",
    "presence_xcapdiff": "",
    "presence_xml": "",
    "proto_bin": "",
    "proto_hep": "",
    "proto_sctp": "",
    "proto_smpp": "",
    "proto_tcp": "",
    "proto_tls": "",
    "proto_udp": "",
    "proto_ws": "",
    "proto_wss": "",
    "pua": "",
    "pua_bla": "",
    "pua_dialoginfo": "",
    "pua_mi": "",
    "pua_usrloc": "",
    "pua_xmpp": "",
    "python": "python_exec",
    "qos": "",
    "qrouting": "",
    "rabbitmq": "rabbitmq_publish",
    "rabbitmq_consumer": "",
    "rate_cacher": "",
    "ratelimit": "rl_check rl_dec_count rl_reset_count",
    "regex": "pcre_match pcre_match_group",
    "registrar": "add_sock_hdr is_contact_registered is_ip_registered is_registered lookup remove save",
    "rest_client": "rest_append_hf rest_get rest_init_client_tls rest_post rest_put",
    "rls": "rls_handle_notify rls_handle_subscribe",
    "rr": "add_rr_param check_route_param is_direction loose_route record_route record_route_preset",
    "rtp_relay": "",
    "rtpengine": (
        "rtpengine_answer rtpengine_block_dtmf rtpengine_block_media rtpengine_delete rtpengine_manage rtpengine_offer "
        "rtpengine_play_dtmf rtpengine_play_media rtpengine_start_forwarding rtpengine_start_recording "
        "rtpengine_stop_forwarding rtpengine_stop_media rtpengine_stop_recording rtpengine_unblock_dtmf "
        "rtpengine_unblock_media rtpengine_use_set"
    ),
    "rtpproxy": (
        "rtpproxy_all_stats rtpproxy_answer rtpproxy_engage rtpproxy_offer rtpproxy_start_recording rtpproxy_stats "
        "rtpproxy_stop_stream2uac rtpproxy_stop_stream2uas rtpproxy_stream2uac rtpproxy_stream2uas rtpproxy_unforce"
    ),
    "script_helper": "",
    "seas": "",
    "signaling": "send_reply",
    "sip_i": "",
    "sipcapture": "report_capture sip_capture",
    "sipmsgops": (
        "add_body_part append_hf append_time append_to_reply append_urihf change_reply_status codec_delete "
        "codec_delete_except_re codec_delete_re codec_exists codec_exists_re codec_move_down codec_move_down_re "
        "codec_move_up codec_move_up_re has_body has_body_part has_totag insert_hf is_audio_on_hold is_method "
        "is_present_hf is_privacy is_uri_user_e164 list_hdr_add_option list_hdr_has_option list_hdr_remove_option "
        "remove_body_part remove_hf remove_hf_glob remove_hf_re ruri_add_param ruri_del_param ruri_has_param "
        "ruri_tel2sip sipmsg_validate stream_delete stream_exists"
    ),
    "siprec": "siprec_start_recording",
    "sl": "sl_reply_error sl_send_reply",
    "smpp": "",
    "sms": "",
    "snmpstats": "",
    "speeddial": "sd_lookup",
    "sql_cacher": "sql_cache_dump",
    "sqlops": (
        "sql_avp_delete sql_avp_load sql_avp_store sql_delete sql_insert sql_query sql_query_one sql_replace sql_select "
        "sql_select_one sql_update"
    ),
    "sst": "sstCheckMin",
    "statistics": "reset_stat stat_iter_init stat_iter_next update_stat",
    "stir_shaken": "stir_shaken_auth stir_shaken_check stir_shaken_check_cert stir_shaken_verify",
    "stun": "",
    "textops": (
        "replace replace_all replace_body replace_body_all replace_body_atonce search search_append search_append_body "
        "search_body subst subst_body subst_uri subst_user"
    ),
    "tls_mgm": "",
    "tls_openssl": "",
    "tls_wolfssl": "",
    "tm": (
        "t_add_cancel_reason t_add_hdrs t_anycast_replicate t_cancel_branch t_check_status t_check_trans t_flush_flags "
        "t_inject_branches t_local_replied t_new_request t_newtran t_on_branch t_on_failure t_on_reply t_relay "
        "t_replicate t_reply t_reply_with_body t_wait_for_new_branches t_was_cancelled t_write_req t_write_unix"
    ),
    "topology_hiding": "topology_hiding topology_hiding_match",
    "tracer": "trace",
    "trie": "trie_search",
    "uac": "uac_auth uac_replace_from uac_replace_to uac_restore_from uac_restore_to",
    "uac_auth": "",
    "uac_redirect": "get_redirects set_accept_filter set_deny_filter",
    "uac_registrant": "",
    "userblacklist": "check_blacklist check_user_blacklist",
    "usrloc": "",
    "uuid": "uuid",
    "xcap": "",
    "xcap_client": "",
    "xml": "",
    "xmpp": "",
}
"""Function names, separated by blanks."""

VARIABLES: dict[str, str] = {
    "acc": "acc_current_leg acc_extra acc_leg",
    "cfgutils": "RANDOM ctime env shv",
    "dialog": (
        "DLG_count DLG_ctx_json DLG_did DLG_dir DLG_end_reason DLG_flags DLG_json DLG_lifetime DLG_status DLG_timeout dlg_val"
    ),
    "json": "json json_compact json_pretty",
    "ratelimit": "rl_count",
    "rr": "rr_params",
    "rtpengine": "rtpquery rtpstat",
    "signaling": "sig_local_totag",
    "statistics": "stat",
    "tm": "T_branch_idx T_fr_inv_timeout T_fr_timeout T_id T_reply_code T_ruri bavp",
    "topology_hiding": "TH_callee_callid",
}
"""Variable names without the dollar sign."""

RENAMED_FUNCTIONS = {
    "rewriteuser": "setuser",
    "rewriteuserpass": "setuserpass",
    "rewritehost": "sethost",
    "rewritehostport": "sethostport",
    "rewriteport": "setport",
    "rewriteuri": "seturi",
    "avp_printf": "$avp(x) = value",
    "setsflag": "setflag",
    "t_on_failure_route": "t_on_failure",
    "sl_reply": "sl_send_reply",
}
"""Names of older versions, or of other servers, and what 3.1 calls them."""

UNSUPPORTED_FUNCTIONS = {
    "use_blacklist": "targets are not blacklisted; leave it out",
    "unuse_blacklist": "targets are not blacklisted; leave it out",
    "t_anycast_replicate": "transactions are those of one server; there is no cluster to pass the request to",
}
"""Functions that do not exist here, and why or what to do."""

MODULES_OF: dict[str, str] = {name: module for module, names in FUNCTIONS.items() for name in names.split()}
"""Module by function name."""

MODULES_OF_VARIABLES: dict[str, str] = {name: module for module, names in VARIABLES.items() for name in names.split()}
"""Module by variable name."""
