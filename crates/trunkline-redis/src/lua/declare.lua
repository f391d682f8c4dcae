-- Makes a topic, or compares it with the one that is there. Its number of partitions stays; its retention
-- and its groups are taken as given, and no group is taken away.
-- KEYS: topic, then the stream of each partition. ARGV: mode, partitions, retention in ms or '',
-- retention in bytes or '', groups.
-- Gives 'ok', 'mode' or 'partitions' with what was found, or 'type' with the key and its type.
for i = 1, #KEYS do
  local found = redis.call('TYPE', KEYS[i]).ok
  local expected = i == 1 and 'hash' or 'stream'
  if found ~= 'none' and found ~= expected then return { 'type', KEYS[i], expected, found } end
end
local known = redis.call('HMGET', KEYS[1], 'mode', 'partitions')
if known[1] and known[1] ~= ARGV[1] then return { 'mode', known[1] } end
if known[2] and known[2] ~= ARGV[2] then return { 'partitions', known[2] } end
redis.call('HSET', KEYS[1], 'mode', ARGV[1], 'partitions', ARGV[2], 'retention_ms', ARGV[3],
  'retention_bytes', ARGV[4])
for i = 2, #KEYS do
  for g = 5, #ARGV do
    local made = redis.pcall('XGROUP', 'CREATE', KEYS[i], ARGV[g], '0', 'MKSTREAM')
    if made.err and not string.find(made.err, 'BUSYGROUP', 1, true) then return made end
  end
end
return { 'ok' }
