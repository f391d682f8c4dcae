-- Says that an instance is there no more.
-- KEYS: until, as. ARGV: address, channel.
redis.call('HDEL', KEYS[2], ARGV[1])
local gone = redis.call('ZREM', KEYS[1], ARGV[1])
if gone == 1 then redis.call('PUBLISH', ARGV[2], ARGV[1]) end
return gone
