-- Moves a group to another position in a partition that is the member's own; what was pending is
-- forgotten. Gives the position and the count as they are then, or nothing if the partition is another's.
-- KEYS: lease, stream. ARGV: member, group, position, and where that is: earliest, latest or ''.
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return false end
local stream, group = KEYS[2], ARGV[2]
for _, flat in ipairs(redis.call('XINFO', 'CONSUMERS', stream, group)) do
  redis.call('XGROUP', 'DELCONSUMER', stream, group, fields(flat)['name'])
end
local info = fields(redis.call('XINFO', 'STREAM', stream))
local position, read = ARGV[3], nil
if ARGV[4] == 'earliest' then
  read = info['entries-added'] - info['length']
elseif ARGV[4] == 'latest' then
  position, read = info['last-generated-id'], info['entries-added']
end
if read then
  redis.call('XGROUP', 'SETID', stream, group, position, 'ENTRIESREAD', read)
else
  redis.call('XGROUP', 'SETID', stream, group, position)
end
return { position, read or -1 }
