"""The MQTT server's shell: listeners, connections and the hooks by which an application gives it its meaning.

It knows `recado.mqtt` and nothing of conversations.
"""
