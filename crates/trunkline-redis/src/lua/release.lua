-- A member gives partitions back, and leaves the group if ARGV[2] is 1.
-- KEYS: members, changes, leases. ARGV: member, leaves.
if ARGV[2] == '1' then redis.call('ZREM', KEYS[1], ARGV[1]) end
for i = 3, #KEYS do
  if redis.call('GET', KEYS[i]) == ARGV[1] then redis.call('DEL', KEYS[i]) end
end
redis.call('XADD', KEYS[2], 'MAXLEN', 1, '*', 'member', ARGV[1])
redis.call('PEXPIRE', KEYS[2], 86400000)
return 1
