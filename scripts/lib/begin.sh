# What scripts start with; sourced with the names of the parts of this folder that they need, common.sh always among them.
set -euo pipefail
export LC_ALL=C.UTF-8
umask 022
lib=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
for part in "$@"; do
  # shellcheck source=/dev/null
  . "$lib/$part.sh"
done
