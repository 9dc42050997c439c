# Lends the machine's Node.js to a container: see node.rs. $1: the program; $2: the folder, as the machine has it; $3: the same as
# the container has it; $4: where the machine sees the container's files. Prints the words that start it, one a line.
set -e
node=$(readlink -f "$1")
if [ ! -x "$2/node/node" ]; then
	made=$2/.node
	rm -rf "$made" "$2/node"
	mkdir -p "$made/bin" "$made/lib" "$made/share"
	cp "$node" "$made/bin/node"
	# Each library as the loader would find it here, and the loader itself; a static program has none.
	(ldd "$node" 2>/dev/null || true) | while read -r name arrow path _; do
		case $name in
		/*) cp -L "$name" "$made/loader" ;;
		*) [ "$arrow" != "=>" ] || [ ! -f "$path" ] || cp -L "$path" "$made/lib/$name" ;;
		esac
	done
	# What Debian's Node.js reads of its own parts when it begins.
	(grep -aoh '/usr/share/nodejs/[A-Za-z0-9_@./-]*\.js' "$made/bin/node" "$made"/lib/libnode* 2>/dev/null || true) | sort -u |
		while read -r file; do
			[ -f "$file" ] || continue
			mkdir -p "$made/share/${file%/*}"
			cp -L "$file" "$made/share/$file"
		done
	run=$3/node/bin/node
	[ ! -f "$made/loader" ] || run="$3/node/loader --library-path $3/node/lib $run"
	run="$run -r $3/node/here.js"
	printf '%s\n' $run >"$made/words"
	# Linux has started the loader, which those that start Node.js again would take for it. They are given a script; steps are
	# not, for shells drop variables such as `INPUT_A-B`.
	echo "process.execPath = process.argv[0] = '$3/node/node';" >"$made/here.js"
	printf '#!/bin/sh\nexec %s "$@"\n' "$run" >"$made/node"
	chmod 755 "$made/node"
	mv "$made" "$2/node"
fi
cat "$2/node/words"
cd "$2/node/share"
find . -type f | while read -r file; do
	file=${file#.}
	[ ! -e "$4$file" ] || continue
	mkdir -p "$4${file%/*}"
	cp ".$file" "$4$file"
done
