# Recado's own user in Mosquitto, as `recado broker-config mosquitto` says. Once: a user that is there is left alone.
control() { mosquitto_ctrl -h mosquitto -u admin -P "$MOSQUITTO_ADMIN_PASSWORD" dynsec "$@"; }

if control getClient recado | grep -q '^Username: *recado'; then
  exit 0
fi
set -e
control createRole recado
control addRoleACL recado publishClientSend 'u/#' allow
control addRoleACL recado publishClientSend '$CONTROL/dynamic-security/v1' allow
control addRoleACL recado subscribeLiteral '$CONTROL/dynamic-security/v1/response' allow
control addRoleACL recado publishClientReceive '$CONTROL/dynamic-security/v1/response' allow
control createClient recado -p "$RECADO_BROKER_PASSWORD"
control addClientRole recado recado
