# sandbox.sh IMAGE COMMAND…: runs COMMAND as a container would, with IMAGE at /srv and PYTHON_HOME at /media: everything
# read-only but the tmpfs at /tmp and /dev/shm, as AS_USER, without capabilities. Wants a mount namespace of its own.
set -eu
image=$1
shift
mount --make-rprivate /
mount --bind "$image" /srv
mount --bind "$PYTHON_HOME" /media # it may lie where only its owner may go
cut -d' ' -f2 /proc/mounts | sort -u | while read -r place; do
    case $place in /proc* | /sys* | /dev*) ;; *) [ ! -e "$place" ] || mount -o remount,bind,ro "$place" ;; esac
done
mount -t tmpfs -o mode=1777,size=16m tmpfs /tmp
cd /srv
if [ -n "${AS_USER:-}" ]; then
    exec setpriv --reuid "$AS_USER" --regid "$AS_USER" --clear-groups --no-new-privs --bounding-set=-all \
        --inh-caps=-all "$@"
fi
exec setpriv --no-new-privs --bounding-set=-all --inh-caps=-all "$@"
