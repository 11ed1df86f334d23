# Starts Mosquitto; at its first start, makes the file of the dynamic security plugin, with an administrator in it.
set -e
users=/mosquitto/data/dynamic-security.json
if [ ! -e "$users" ]; then
  mosquitto_ctrl dynsec init "$users" admin "$MOSQUITTO_ADMIN_PASSWORD"
  chown mosquitto: "$users"
fi
exec mosquitto -c /recado/mosquitto.conf
